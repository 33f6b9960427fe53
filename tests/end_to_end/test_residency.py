"""What a request takes beside the weights counts: it makes room, is published, or is refused."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.errors import RejectedError

from .conftest import SD15, SDXL, Daemon, kill_9, latents, wait_until


def device(daemon: Daemon) -> dict[str, Any]:
    entry: dict[str, Any] = daemon.status()["devices"]["cpu"]
    return entry


def test_what_others_should_leave_free_is_published_and_grows_with_what_is_asked(
    start_daemon: Any,
) -> None:
    daemon = start_daemon()
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    first = device(daemon)
    assert first["weight_bytes"] == sum(model["nbytes"] for model in daemon.models())
    assert first["reserved_bytes"] == first["weight_bytes"] + first["activation_bytes"]
    assert first["activation_bytes"] > 0
    client.vae_decode(latents(side=96), workflow_id="w")
    after = device(daemon)
    assert after["activation_bytes"] > first["activation_bytes"]
    assert after["weight_bytes"] == first["weight_bytes"]


def test_a_run_drops_models_that_nobody_holds_and_none_that_somebody_does(
    start_daemon: Any,
) -> None:
    # The SDXL models take about 3.4 MB, the SD1.5 encoder 0.7 MB, the picture far more than is left.
    daemon = start_daemon(device_budgets_gb="cpu=0.006")
    client = daemon.client()
    client.get_model_proxies("held", "SDXL", SDXL)
    client.get_model_proxies("free", "SD1.5", {"clip_l": SD15["clip_l"]})
    client.release("free")
    assert len(daemon.models()) == 4
    client.vae_decode(latents(side=48), workflow_id="held")
    assert [model["workflows"] for model in daemon.models()] == [["held"]] * 3


def test_under_a_budget_that_leaves_nothing_beside_weights_texts_are_refused_and_pictures_are_not(
    start_daemon: Any,
) -> None:
    daemon = start_daemon(device_budgets_gb="cpu=0.0034")
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    with pytest.raises(RejectedError, match="beside the weights") as refused:
        client.clip_encode("a red fox", workflow_id="w")
    assert "device_budgets_gb" in str(refused.value)
    assert client.vae_decode(latents(side=16), workflow_id="w").shape == (1, 128, 128, 3)


def images_mapped_by(pid: int) -> set[str]:
    """The inodes of shared weights in a process."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if "memfd:luna-weights" in line}


def images_held_by(pid: int) -> int:
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed just now
            found += "luna-weights" in str(entry.readlink())
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memfd")
def test_a_worker_in_place_of_a_dead_one_finds_the_weights_and_gives_the_same_bits(
    start_daemon: Any,
) -> None:
    daemon = start_daemon(answer_cache_mb=0)
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    expected = client.clip_encode("a red fox", workflow_id="w")
    pid, before = daemon.worker_pid(), images_mapped_by(daemon.worker_pid())
    assert (len(before), images_held_by(daemon.process.pid)) == (3, 3)
    assert images_mapped_by(daemon.process.pid) == set()
    kill_9(pid)
    again = client.clip_encode("a red fox", workflow_id="w")
    assert torch.equal(again.cond, expected.cond)
    assert daemon.worker_pid() != pid
    assert images_mapped_by(daemon.worker_pid()) < before, (
        "the encoders'; the VAE comes when needed"
    )
    assert torch.equal(again.pooled, expected.pooled)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memfd")
def test_shared_weights_end_with_the_last_user_of_their_model(start_daemon: Any) -> None:
    daemon = start_daemon(device_budgets_gb="cpu=0.0034")
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    client.release("w")
    assert images_held_by(daemon.process.pid) == 3, "still in memory"
    client.get_model_proxies("v", "SD1.5", {"clip_l": SD15["clip_l"]})
    models = len(daemon.models())
    assert models < 4
    wait_until(lambda: images_held_by(daemon.process.pid) == models)
    wait_until(lambda: len(images_mapped_by(daemon.worker_pid())) == models)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memfd")
def test_sharing_can_be_switched_off(start_daemon: Any) -> None:
    daemon = start_daemon(share_weights="off")
    daemon.client().get_model_proxies("w", "SDXL", SDXL)
    assert images_held_by(daemon.process.pid) == 0
    assert images_mapped_by(daemon.worker_pid()) == set()
