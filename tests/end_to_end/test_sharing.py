"""Workflows share models through a real daemon, and get what they would get alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from luna_collection.luna_daemon.client import DaemonClient
from luna_collection.luna_daemon.engines.engine import EngineSettings, SilentControl
from luna_collection.luna_daemon.engines.hf.engine import HfEngine
from luna_collection.luna_daemon.errors import BadRequestError, NotFoundError
from luna_collection.luna_daemon.model_locator import ModelLocator
from luna_collection.luna_daemon.protocol.work import DecodeLatent, EncodeImage, EncodeText, Tiling

from .conftest import SD15, SDXL, Background, Daemon, latents, wait_until


@pytest.fixture(scope="module")
def local(models: Path) -> Any:
    """The same engine in this process: role names → call."""
    engine, locator = HfEngine(EngineSettings("cpu")), ModelLocator([models])

    def run(names: dict[str, str], model_type: str, work: Any, *tensors: torch.Tensor) -> Any:
        specs = {r: locator.spec(r, n, engine="hf", precision="fp32") for r, n in names.items()}
        residents = {role: engine.load(spec) for role, spec in specs.items()}
        return engine.run(work, model_type, residents, tensors, SilentControl()).tensors

    return run


def test_two_workflows_that_name_the_same_files_hold_each_model_once(daemon: Daemon) -> None:
    one, two = daemon.client(), daemon.client()
    first = one.get_model_proxies("one", "SDXL", SDXL)
    second = two.get_model_proxies("two", "SDXL", SDXL)
    assert first.keys == second.keys
    held = {m["key"]: m["workflows"] for m in daemon.models()}
    assert {key: held[key] for key in first.keys.values()} == {
        key: ["one", "two"] for key in first.keys.values()
    }
    assert len(daemon.models()) == len({m["key"] for m in daemon.models()})
    daemon.close_clients()


def test_three_workflows_of_two_families_share_only_what_is_the_same(daemon: Daemon) -> None:
    client = daemon.client()
    keys = [
        client.get_model_proxies("char_gen", "SDXL", SDXL).keys,
        client.get_model_proxies("bg_gen", "SDXL", SDXL).keys,
        client.get_model_proxies("testing", "SD1.5", SD15).keys,
    ]
    assert keys[0] == keys[1]
    assert keys[0]["vae"] == keys[2]["vae"]
    assert keys[0]["clip_l"] != keys[2]["clip_l"]
    used = [m for m in daemon.models() if "testing" in m["workflows"]]
    assert {m["role"] for m in used} == {"clip_l", "vae"}
    daemon.close_clients()


@pytest.mark.parametrize("tiling", [None, Tiling(tile=64, overlap=16)], ids=["whole", "tiled"])
@pytest.mark.parametrize("side", [16, 48], ids=["small: inline", "large: shared memory"])
def test_vae_results_are_bit_identical_to_the_engine_in_process(
    daemon: Daemon, local: Any, side: int, tiling: Tiling | None
) -> None:
    client = daemon.client()
    client.get_model_proxies("vae", "SDXL", SDXL)
    latent = latents(side=side)
    image = client.vae_decode(latent, workflow_id="vae", tiling=tiling)
    expected = local({"vae": SDXL["vae"]}, "SDXL", DecodeLatent(latent=0, tiling=tiling), latent)[0]
    assert torch.equal(image, expected)
    again = client.vae_encode(image, workflow_id="vae", tiling=tiling)
    work = EncodeImage(image=0, tiling=tiling)
    assert torch.equal(again, local({"vae": SDXL["vae"]}, "SDXL", work, expected)[0])
    daemon.close_clients()


@pytest.mark.parametrize(("family", "names"), [("SDXL", SDXL), ("SD1.5", SD15)])
@pytest.mark.parametrize("clip_skip", [0, 1])
def test_conditioning_is_bit_identical_to_the_engine_in_process(
    daemon: Daemon, local: Any, family: str, names: dict[str, str], clip_skip: int
) -> None:
    client = daemon.client()
    client.get_model_proxies("text", family, names)
    encoders = {role: name for role, name in names.items() if role != "vae"}
    texts = ("a lighthouse in a storm", "a red fox")
    expected = local(encoders, family, EncodeText(texts=texts, clip_skip=clip_skip))
    encoded = client.clip_encode(texts, workflow_id="text", clip_skip=clip_skip)
    assert torch.equal(encoded.cond, expected[0])
    assert encoded.pooled is not None
    assert torch.equal(encoded.pooled, expected[1])
    daemon.close_clients()


def test_a_text_that_another_workflow_encoded_comes_from_the_cache(daemon: Daemon) -> None:
    one, two = daemon.client(), daemon.client()
    one.get_model_proxies("one", "SDXL", SDXL)
    two.get_model_proxies("two", "SDXL", SDXL)
    first = one.clip_encode("said twice", workflow_id="one")
    second = two.clip_encode("said twice", workflow_id="two")
    assert (first.cache_hit, second.cache_hit) == (False, True)
    assert torch.equal(first.cond, second.cond)
    daemon.close_clients()


def test_workflows_with_different_clip_skip_never_get_each_others_layer(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    expected = {
        skip: client.clip_encode("a fox", workflow_id="w", clip_skip=skip).cond for skip in (0, 1)
    }
    assert not torch.equal(expected[0], expected[1])

    def many(skip: int) -> bool:
        mine = daemon.client()
        mine.get_model_proxies(f"w{skip}", "SDXL", SDXL)
        texts = [f"a fox {n}" for n in range(20)]
        conds = [mine.clip_encode(t, workflow_id=f"w{skip}", clip_skip=skip).cond for t in texts]
        same = mine.clip_encode("a fox", workflow_id=f"w{skip}", clip_skip=skip).cond
        return len(conds) == 20 and torch.equal(same, expected[skip])

    runs = [Background(lambda skip=skip: many(skip)) for skip in (0, 1)]
    assert all(run.result() for run in runs)
    daemon.close_clients()


def test_many_threads_share_one_client(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    expected = [client.vae_decode(latents(seed=n), workflow_id="w") for n in range(6)]
    runs = [
        Background(lambda n=n: client.vae_decode(latents(seed=n), workflow_id="w"))
        for n in range(6)
    ]
    assert all(torch.equal(run.result(), one) for run, one in zip(runs, expected, strict=True))
    daemon.close_clients()


def test_progress_of_a_tiled_decode_reaches_the_caller(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    steps: list[tuple[int, int]] = []
    client.vae_decode(
        latents(side=32),
        workflow_id="w",
        tiling=Tiling(tile=64, overlap=16),
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert steps
    assert steps[-1][0] == steps[-1][1] > 1
    daemon.close_clients()


def test_a_text_that_is_too_long_is_reported(daemon: Daemon) -> None:
    client = daemon.client(on_note=lambda text: None)
    client.get_model_proxies("w", "SD1.5", SD15)
    encoded = client.clip_encode("word " * 300, workflow_id="w")
    assert any("left out" in note for note in encoded.notes)
    daemon.close_clients()


def test_the_supervisor_never_loads_torch(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    client.clip_encode("anything", workflow_id="w")
    maps = {region.path for region in psutil.Process(daemon.process.pid).memory_maps()}
    assert maps
    assert not [path for path in maps if "torch" in path or "numpy" in path]
    worker = {region.path for region in psutil.Process(daemon.worker_pid()).memory_maps()}
    assert [path for path in worker if "torch" in path], "the same look finds torch in a worker"
    daemon.close_clients()


def test_a_released_workflow_no_longer_holds_its_models(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("short", "SDXL", SDXL)
    client.release("short")
    assert not [m for m in daemon.models() if "short" in m["workflows"]]
    with pytest.raises(NotFoundError, match="has not registered"):
        client.clip_encode("a", workflow_id="short")
    daemon.close_clients()


def test_a_workflow_without_a_vae_cannot_decode(daemon: Daemon) -> None:
    client = daemon.client()
    proxies = client.get_model_proxies("text only", "SD1.5", {"clip_l": SD15["clip_l"]})
    assert proxies.vae is None
    with pytest.raises(BadRequestError, match="needs a VAE"):
        client.vae_decode(latents(), workflow_id="text only")
    daemon.close_clients()


def test_the_functions_of_the_module_use_the_daemon_of_the_environment(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luna_collection.luna_daemon import client as module

    monkeypatch.setenv("LUNA_RUNTIME_DIR", str(daemon.folder))
    monkeypatch.setenv("LUNA_PORT", "0")
    monkeypatch.setattr(module, "_default", None)
    module.get_model_proxies("functions", "SDXL", SDXL)
    assert module.clip_encode("a", workflow_id="functions").cond.shape[:2] == (1, 77)
    assert module.vae_decode(latents(), workflow_id="functions").shape == (1, 128, 128, 3)
    assert module.vae_encode(torch.zeros(1, 64, 64, 3), workflow_id="functions").shape == (
        1,
        4,
        8,
        8,
    )
    assert module.status()["state"] == "running"
    module.release("functions")
    module.default_client().close()


def test_a_client_that_leaves_gives_its_models_up_after_the_grace_period(start_daemon: Any) -> None:
    daemon = start_daemon(lease_grace_s=0.1)
    with DaemonClient(config=daemon.config) as client:
        client.get_model_proxies("w", "SD1.5", SD15)
        assert daemon.status()["workflows"]
    wait_until(lambda: not daemon.status()["workflows"])
    assert [m["workflows"] for m in daemon.models()] == [[], []], "still in memory, but free to go"


def test_models_nobody_holds_make_room_and_held_ones_do_not(start_daemon: Any) -> None:
    # The SDXL encoders and VAE take about 3.4 MB together, the SD1.5 encoder 0.7 MB.
    daemon = start_daemon(device_budgets_gb="cpu=0.0034")
    client = daemon.client()
    client.get_model_proxies("big", "SDXL", SDXL)
    with pytest.raises(Exception, match="held by other workflows"):
        client.get_model_proxies("more", "SD1.5", {"clip_l": SD15["clip_l"]})
    client.release("big")
    client.get_model_proxies("more", "SD1.5", {"clip_l": SD15["clip_l"]})
    assert "more" in {user for m in daemon.models() for user in m["workflows"]}


def test_requests_that_wait_together_are_joined_and_stay_bit_identical(
    daemon: Daemon, local: Any
) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    texts = [f"a joined text, number {n}" for n in range(8)]
    blocker = Background(lambda: client.vae_decode(latents(batch=6, side=64), workflow_id="w"))
    wait_until(lambda: any(w["state"] == "busy" for w in daemon.workers()))
    runs = [Background(lambda t=t: client.clip_encode(t, workflow_id="w")) for t in texts]
    together = [run.result() for run in runs]
    blocker.result()
    assert not any(one.cache_hit for one in together)
    encoders = {role: name for role, name in SDXL.items() if role != "vae"}
    for text, one in zip(texts, together, strict=True):
        expected = local(encoders, "SDXL", EncodeText(texts=(text,)))
        assert torch.equal(one.cond, expected[0])
        assert torch.equal(one.pooled, expected[1])
    daemon.close_clients()
