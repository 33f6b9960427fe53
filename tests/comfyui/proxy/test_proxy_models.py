"""A workflow's claims, its calls, and which models can be skeletons at all."""

from __future__ import annotations

import gc
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.errors import (
    ConnectionLostError,
    IncompatibleError,
    NotFoundError,
)

from .comparing import assert_both, assert_same, decoded, encode, encoded, image, latent
from .conftest import run_daemon, wait_until_released

RELEASE_TIMEOUT_S = 30


def test_claims_end_with_the_proxies(local_models, files):
    from luna_collection.luna_daemon.proxy.opening import open_vae

    one, two = open_vae(local_models, files("taesd")), open_vae(local_models, files("taesd"))
    assert len(local_models.roles()) == 1
    del one
    gc.collect()
    decoded(two)
    assert len(local_models.roles()) == 1
    del two
    gc.collect()
    wait_until_released(local_models)


def test_claims_end_with_the_proxies_where_nothing_else_knows_them(calls, files):
    from luna_collection.luna_daemon.proxy.models import DaemonModels
    from luna_collection.luna_daemon.proxy.opening import open_vae

    def workflows() -> list[str]:
        return [workflow["workflow_id"] for workflow in calls.status()["workflows"]]

    vae = open_vae(DaemonModels(calls, "a graph", "SD1.5"), files("taesd"))
    gc.collect()
    assert "a graph" in workflows()
    del vae
    gc.collect()
    deadline = time.monotonic() + RELEASE_TIMEOUT_S
    while "a graph" in workflows() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "a graph" not in workflows()


def test_a_graph_that_is_over_leaves_its_room_to_the_next(
    comfyui, folder, files, tmp_path, monkeypatch
):
    import comfy.memory_management
    from luna_collection.luna_daemon.errors import RejectedError
    from luna_collection.luna_daemon.proxy.models import DaemonModels
    from luna_collection.luna_daemon.proxy.opening import open_clip
    from luna_collection.luna_daemon.proxy.progress import comfyui_client

    one, other = files("clip_l"), files("clip_l_other")
    monkeypatch.setenv("LUNA_DEVICE_BUDGETS_GB", "cpu=0.4")  # for one of them
    cache: list[Any] = []  # ComfyUI's, which lets go when it is asked for memory
    monkeypatch.setattr(
        comfy.memory_management,
        "extra_ram_release_callback",
        lambda target, free_active: cache.clear(),
        raising=False,
    )

    def open_in(graph: str, file: Path) -> Any:
        return open_clip(DaemonModels(client, graph, "SD1.5"), [file], "STABLE_DIFFUSION")

    with run_daemon(comfyui.root, folder, tmp_path) as config, comfyui_client(config) as client:
        cache.append(open_in("one", one))
        assert encode(open_in("two", other)) is not None
        used = open_in("three", one)
        with pytest.raises(RejectedError, match="held by"):
            open_in("four", other)
        del used


def test_a_file_replaced_under_its_name_is_noticed(models, files, tmp_path):
    from luna_collection.luna_daemon.proxy.opening import open_vae

    file = files("taesd").with_name("replaced.safetensors")
    shutil.copy(files("taesd"), file)
    vae = open_vae(models, file)
    decoded(vae)
    file.write_bytes(files("taesd").read_bytes() + b"")
    with pytest.raises(NotFoundError, match=r"replaced\.safetensors"):
        decoded(vae)


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_bytes(b"no weights")])
def test_a_model_whose_file_is_gone_keeps_no_other_from_working(calls, files, change):
    """ComfyUI keeps proxies beyond the run in which another file was chosen."""
    from luna_collection.luna_daemon.proxy.models import DaemonModels
    from luna_collection.luna_daemon.proxy.opening import open_vae

    models = DaemonModels(
        calls, f"a file is gone by {change.__name__}", "SD1.5"
    )  # its own: an end comes late
    file = files("taesd").with_name("gone.safetensors")
    shutil.copy(files("taesd"), file)
    old = open_vae(models, file)
    change(file)
    new = open_vae(models, files("taesd"))
    assert_same(decoded(new), decoded(open_vae(models, files("taesd"))))
    with pytest.raises(NotFoundError, match=r"gone\.safetensors"):
        decoded(old)
    del old
    gc.collect()
    decoded(new)


@pytest.mark.parametrize("policy", ["error", "local"])
def test_a_daemon_that_ended_is_started_before_the_next_call(daemon, files, policy):
    """ComfyUI keeps what a loader gave, so nothing else would start it."""
    from luna_collection.luna_daemon.proxy.models import DaemonModels
    from luna_collection.luna_daemon.proxy.opening import open_vae
    from luna_collection.luna_daemon.proxy.progress import comfyui_client

    started = []
    with comfyui_client(daemon) as client:
        models = DaemonModels(
            client, f"revived {policy}", "Other", policy, revive=lambda: started.append(1)
        )
        vae = open_vae(models, files("taesd"))
        first = decoded(vae)
        assert started == []
        client.close()  # all links are gone, as when the daemon has ended
        assert_same(decoded(vae), first)
        assert len(started) == (1 if policy == "error" else 0)


def test_a_lost_daemon_is_named_with_the_model_that_it_held(vaes, calls, monkeypatch):
    def broken(*_: Any, **__: Any) -> Any:
        raise ConnectionLostError("The connection broke while receiving.")

    with monkeypatch.context() as patch:
        patch.setattr(calls, "call", broken)
        with pytest.raises(ConnectionLostError, match=r"daemon.*'vae\.safetensors'.*broke") as lost:
            decoded(vaes[0])
    assert "Queue the prompt again" in str(lost.value)
    assert_both(vaes, decoded)


def test_cancel_ends_a_call(vaes):
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        decoded(vaes[0], {"samples": torch.randn(1, 4, 24, 24)})
    assert_both(vaes, decoded)


def test_other_settings_than_the_daemons_are_told(vaes, daemon, files, monkeypatch):
    from comfy.cli_args import args
    from luna_collection.luna_daemon.proxy.models import DaemonModels
    from luna_collection.luna_daemon.proxy.opening import open_vae
    from luna_collection.luna_daemon.proxy.progress import comfyui_client

    monkeypatch.setattr(args, "bf16_vae", True)
    with comfyui_client(daemon) as other, pytest.raises(IncompatibleError, match="bf16_vae"):
        open_vae(DaemonModels(other, "other settings", "SD1.5"), files("taesd"))


def test_sdxl(sdxl):
    from comfy_extras.nodes_clip_sdxl import CLIPTextEncodeSDXL

    assert_both(sdxl, encode)
    sizes = (64, 64, 0, 0, 64, 64)
    assert_both(sdxl, lambda c: CLIPTextEncodeSDXL.execute(c, *sizes, "a cat", "painting").args)


def test_a_checkpoint(models, files):
    import comfy.sd
    from luna_collection.luna_daemon.proxy.opening import open_clip, open_vae

    file = files("checkpoint")
    stock = comfy.sd.load_checkpoint_guess_config(str(file), output_model=False)
    clip = open_clip(models, [file], "STABLE_DIFFUSION", checkpoint=True)
    assert_both((clip, stock[1]), encode)
    vae = open_vae(models, file, checkpoint=True)
    assert_both((vae, stock[2]), decoded)
    assert_both((vae, stock[2]), encoded)


def test_clip_vision(models, files):
    import comfy.clip_vision
    from luna_collection.luna_daemon.proxy.opening import open_clip_vision

    pair = (
        open_clip_vision(models, files("clip_vision")),
        comfy.clip_vision.load(str(files("clip_vision"))),
    )
    assert isinstance(pair[0], comfy.clip_vision.ClipVisionModel)
    found = assert_both(pair, lambda model: vars(model.encode_image(image())))
    assert vars(pair[0].encode_image(image())).get("image_sizes") == found.get("image_sizes")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_mean", [0.0, 0.1, 0.2]),
        ("return_all_hidden_states", True),
        ("model", lambda **_: [torch.ones(2)] * 4),
    ],
)
def test_settings_of_a_clip_vision_model_are_kept(models, files, name, value):
    import comfy.clip_vision
    from luna_collection.luna_daemon.proxy.opening import open_clip_vision

    pair = (
        open_clip_vision(models, files("clip_vision")),
        comfy.clip_vision.load(str(files("clip_vision"))),
    )

    def run(model: Any) -> Any:
        return vars(model.encode_image(image()))

    plain = assert_both(pair, run)
    for model in pair:
        setattr(model, name, value)
    found = assert_both(pair, run)
    assert found.keys() != plain.keys() or not torch.equal(
        found["last_hidden_state"], plain["last_hidden_state"]
    )


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("comfy.clip_vision.ClipVisionModel", "encode_image"),
        ("comfy.clip_model", "clip_preprocess"),
        ("comfy.clip_vision", "clip_preprocess"),
    ],
)
def test_replaced_code_of_comfyuis_clip_vision_is_noticed(models, files, monkeypatch, owner, name):
    from luna_collection.luna_daemon.proxy.errors import EditNotSharedError
    from luna_collection.luna_daemon.proxy.opening import open_clip_vision

    model = open_clip_vision(models, files("clip_vision"))
    monkeypatch.setattr(f"{owner}.{name}", lambda *_, **__: None)
    with pytest.raises(EditNotSharedError, match=name):
        model.encode_image(image())


def test_what_cannot_be_a_skeleton_says_so(models, files, tmp_path):
    from luna_collection.luna_daemon.proxy.errors import NotASkeletonError
    from luna_collection.luna_daemon.proxy.opening import open_clip, open_clip_vision, open_vae

    pickled = tmp_path / "old.ckpt"
    pickled.write_bytes(b"")
    attempts: list[Any] = [
        lambda: open_vae(models, "taesd"),
        lambda: open_vae(models, "pixel_space"),
        lambda: open_vae(models, pickled),
        lambda: open_vae(models, files("clip_l")),
        lambda: open_clip(models, [files("clip_l"), files("clip_g")], "HUNYUAN_DIT"),
        lambda: open_clip(models, [files("clip_l")], "TYPE_OF_THE_FUTURE"),
        lambda: open_clip(models, [files("vae")], "STABLE_DIFFUSION", checkpoint=True),
        lambda: open_clip_vision(models, files("vae")),
        lambda: open_vae(models, _with_key(tmp_path, "decoder.unpatcher3d.wavelets")),
        lambda: open_vae(models, _with_key(tmp_path, "gs.base_offset_scale")),
    ]
    for attempt in attempts:
        with pytest.raises(NotASkeletonError):
            attempt()


def _with_key(folder: Path, key: str) -> Path:
    from safetensors.torch import save_file

    file = folder / f"{key}.safetensors"
    save_file({key: torch.zeros(4)}, file)
    return file


def test_a_decode_of_many_latents_at_once(vaes):
    many = {"samples": latent()["samples"].repeat(3, 1, 1, 1)}
    assert_both(vaes, lambda vae: decoded(vae, many))
