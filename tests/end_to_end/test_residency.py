"""What a request takes beside the weights counts: it makes room, is published, or is refused."""

from __future__ import annotations

from typing import Any

import pytest
from luna_collection.luna_daemon.errors import RejectedError

from .conftest import SD15, SDXL, Daemon, latents


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
