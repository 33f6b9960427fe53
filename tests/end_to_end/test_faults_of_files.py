"""Files and memory that are not what they should be, and models that come and go under load."""

from __future__ import annotations

import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from luna_collection.luna_daemon.client import DaemonClient
from luna_collection.luna_daemon.errors import BadRequestError, NotFoundError, RejectedError
from safetensors.torch import load_file, save_file

from .conftest import SD15, SDXL, Background, Daemon, kill_9, latents, wait_until
from .footprint import no_trace_in

Start = Callable[..., Daemon]
ROUNDS = 20
CLIENTS = 16


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.marker),))


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    """A copy of the model folders that a test may change."""
    return Path(shutil.copytree(models, tmp_path / "models"))


def replace_vae(folder: Path) -> None:
    file = next((folder / "sdxl" / "vae").glob("*.safetensors"))
    changed = {name: tensor * 0.5 for name, tensor in load_file(file).items()}
    save_file(changed, file, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.safetensors", "model.pt"])
def test_a_pickle_is_refused_and_never_opened(
    start_daemon: Start, own_models: Path, tmp_path: Path, name: str
) -> None:
    marker = tmp_path / "was-run"
    folder = own_models / "bomb" / "vae"
    shutil.copytree(own_models / "sdxl" / "vae", folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    torch.save({"weight": torch.zeros(2), "bomb": Bomb(marker)}, folder / name)
    daemon = start_daemon(model_folder=own_models)
    with no_trace_in(daemon):
        with pytest.raises(BadRequestError) as caught:
            daemon.client().get_model_proxies("w", "SD1.5", {**SD15, "vae": "bomb/vae"})
        assert "safetensors" in str(caught.value)
        assert str(own_models) not in str(caught.value)
        assert not marker.exists()
    torch.load((folder / name).rename(tmp_path / "bomb.pt"), weights_only=False)
    assert marker.exists(), "the bomb is a real one"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_that_leads_out_of_the_model_folders_is_not_followed(
    start_daemon: Start, own_models: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "private" / "vae"
    shutil.copytree(own_models / "sdxl" / "vae", outside)
    (own_models / "linked").symlink_to(outside.parent)
    file = next((own_models / "sdxl" / "vae").glob("*.safetensors"))
    (own_models / "half").mkdir()
    shutil.copytree(own_models / "sdxl" / "vae", own_models / "half" / "vae")
    half = own_models / "half" / "vae" / file.name
    half.unlink()
    half.symlink_to(outside / file.name)
    daemon = start_daemon(model_folder=own_models)
    with no_trace_in(daemon):
        for name in ("linked/vae", "half/vae"):
            with pytest.raises(NotFoundError) as caught:
                daemon.client().get_model_proxies("w", "SD1.5", {**SD15, "vae": name})
            assert "private" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        r"C:\models\sdxl\vae",
        "C:/models/sdxl/vae",
        r"\\server\share\sdxl\vae",
        "//server/share/sdxl/vae",
        r"\\?\C:\models\vae",
        r"sdxl\..\..\vae",
        "sdxl/vae:stream",
        "CON",
        "sdxl/vae\r\n",
        "%2e%2e/sdxl/vae",
        "sdxl/vae" + "/x" * 2000,
    ],
)
def test_names_as_windows_and_others_know_them_are_not_found(daemon: Daemon, name: str) -> None:
    with no_trace_in(daemon):
        with pytest.raises((NotFoundError, BadRequestError)) as caught:
            daemon.client().get_model_proxies("misnamed", "SD1.5", {**SD15, "vae": name})
        assert str(daemon.folder.parent) not in str(caught.value)
        assert "misnamed" not in {w["workflow_id"] for w in daemon.status()["workflows"]}


def test_weights_of_a_replaced_file_serve_until_they_are_gone_and_then_nothing_else_does(
    start_daemon: Start, own_models: Path
) -> None:
    daemon = start_daemon(model_folder=own_models)
    with no_trace_in(daemon):
        client = daemon.client()
        client.get_model_proxies("w", "SDXL", SDXL)
        before = client.vae_decode(latents(), workflow_id="w")
        replace_vae(own_models)
        assert torch.equal(client.vae_decode(latents(), workflow_id="w"), before)
        kill_9(daemon.worker_pid())
        for _ in range(2):
            with pytest.raises(NotFoundError, match="have changed since it was registered"):
                client.vae_decode(latents(), workflow_id="w")
        client.clip_encode("the text encoders are unchanged", workflow_id="w")
        client.get_model_proxies("w", "SDXL", SDXL)
        assert not torch.equal(client.vae_decode(latents(), workflow_id="w"), before)


def test_a_file_replaced_while_the_daemon_was_away_is_not_taken_for_the_old_one(
    start_daemon: Start, own_models: Path
) -> None:
    daemon = start_daemon(model_folder=own_models)
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    before = client.vae_decode(latents(), workflow_id="w")
    daemon.kill()
    replace_vae(own_models)
    again = start_daemon(folder=daemon.folder, model_folder=own_models)
    with no_trace_in(again):
        for _ in range(2):
            with pytest.raises(NotFoundError, match="have changed since it was registered"):
                client.vae_decode(latents(), workflow_id="w")
        client.get_model_proxies("w", "SDXL", SDXL)
        assert not torch.equal(client.vae_decode(latents(), workflow_id="w"), before)
        client.close()


def test_clients_that_ask_for_a_model_at_once_cause_one_load(start_daemon: Start) -> None:
    daemon = start_daemon()
    with no_trace_in(daemon):
        runs = [
            Background(lambda n=n: daemon.client().get_model_proxies(f"w{n}", "SD1.5", SD15))
            for n in range(CLIENTS)
        ]
        keys = [run.result().keys for run in runs]
        assert all(one == keys[0] for one in keys)
        used = {m["key"]: m["workflows"] for m in daemon.models() if m["key"] in keys[0].values()}
        assert [len(workflows) >= CLIENTS for workflows in used.values()] == [True, True]
    log = daemon.log.read_text()
    # no_trace_in has loaded SDXL's before, whose VAE is the same; what is left is one text encoder.
    assert [log.count(f"loaded {role} in") for role in ("clip_l", "clip_g", "vae")] == [2, 1, 1]


def test_models_that_push_each_other_out_under_load_give_right_results(
    start_daemon: Start, daemon: Daemon
) -> None:
    with DaemonClient(config=daemon.config) as reference:
        reference.get_model_proxies("xl", "SDXL", SDXL)
        reference.get_model_proxies("15", "SD1.5", {"clip_l": SD15["clip_l"]})
        images = [reference.vae_decode(latents(seed=n), workflow_id="xl") for n in range(ROUNDS)]
        texts = {
            workflow: [
                reference.clip_encode(f"round {n}", workflow_id=workflow).cond
                for n in range(ROUNDS)
            ]
            for workflow in ("xl", "15")
        }
    # The SDXL encoders and VAE take about 3.4 MB together, the SD1.5 encoder 0.7 MB, a text 2 MB.
    small = start_daemon(device_budgets_gb="cpu=0.0054", lease_grace_s=0.5)

    together = threading.Barrier(2, timeout=60)

    def rounds(workflow: str, family: str, models: dict[str, str]) -> int:
        right = 0
        with DaemonClient(config=small.config) as client:
            for n in range(ROUNDS):
                together.wait()
                cond = encode_when_there_is_room(client, n, workflow, family, models)
                right += torch.equal(cond, texts[workflow][n])
                if "vae" in models:
                    image = client.vae_decode(latents(seed=n), workflow_id=workflow)
                    right += torch.equal(image, images[n])
                client.release(workflow)
        return right

    with no_trace_in(small):
        # Until then the lost lease of serve_one holds the models.
        wait_until(lambda: not small.status()["workflows"], 60)
        runs = [
            Background(lambda: rounds("xl", "SDXL", SDXL)),
            Background(lambda: rounds("15", "SD1.5", {"clip_l": SD15["clip_l"]})),
        ]
        assert [run.result() for run in runs] == [2 * ROUNDS, ROUNDS]
        assert small.log.read_text().count("to make room") >= ROUNDS
        wait_until(lambda: not small.status()["workflows"], 60)


def encode_when_there_is_room(
    client: DaemonClient, n: int, workflow: str, family: str, models: dict[str, str]
) -> torch.Tensor:
    """Claim the models and encode; who finds no room gives its own claim up before it tries again."""
    deadline = time.monotonic() + 60
    while True:
        try:
            client.get_model_proxies(workflow, family, models)
            return client.clip_encode(f"round {n}", workflow_id=workflow).cond
        except RejectedError:
            with suppress(NotFoundError):  # it was the claim that found none
                client.release(workflow)
            if time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.01, 0.1))


def test_named_shared_memory_that_does_not_fit_is_not_used_and_that_is_reported(
    start_daemon: Start,
) -> None:
    arena_mb = 65536
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux takes the pages of named memory at once")
    if psutil.disk_usage("/dev/shm").free > arena_mb * 2**20:
        pytest.skip("this machine has room for the largest arena")
    daemon = start_daemon(transport="named", arena_mb=arena_mb)
    with no_trace_in(daemon):
        client = daemon.client()
        client.get_model_proxies("w", "SDXL", SDXL)
        assert client.transport == "inline"
        assert client.vae_decode(latents(side=48), workflow_id="w").shape == (1, 384, 384, 3)
        assert daemon.status()["counters"]["transport_demotions{tier=named}"] >= 1
        assert {s["transport"] for s in daemon.status()["sessions"]} == {"inline"}
    assert f"There is no room for {arena_mb} MB of shared memory" in daemon.log.read_text()
