"""Text encoders from GGUF files, here and in the daemon: as stock ComfyUI with the dequantised weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from . import gguf_encoders, narrow_encoders
from .comparing import assert_differ, assert_same, encode
from .test_proxy_t5 import with_t5_patch

Three = tuple[Any, Any, Any]


@pytest.fixture
def open_three(
    narrow_models: Any,
    narrow_files: Callable[[str], Path],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Three]:
    """Return text encoders: from the GGUF file in the daemon, from it here, and stock ones."""
    import comfy.sd
    from luna_collection.luna_daemon.gguf_models.loading import load_gguf_clip
    from luna_collection.luna_daemon.proxy import builders
    from luna_collection.luna_daemon.proxy.opening import open_clip

    usual, narrow = builders._te_options, narrow_encoders.OPTIONS
    monkeypatch.setattr(builders, "_te_options", lambda dtype: {**usual(dtype), **narrow})

    def open_all(clip_type: str, name: str, *others: str) -> Three:
        gguf, plain = gguf_encoders.make(folder, name)
        kind = getattr(comfy.sd.CLIPType, clip_type)
        beside = [narrow_files(other) for other in others]
        files, plain_files = [*beside, gguf], [*beside, plain]
        stock = comfy.sd.load_clip(
            [str(file) for file in plain_files], clip_type=kind, model_options=dict(narrow)
        )
        local = load_gguf_clip([str(file) for file in files], None, kind, dict(narrow))
        return open_clip(narrow_models, files, clip_type), local, stock

    return open_all


def assert_all(three: Three, run: Callable[[Any], Any]) -> Any:
    """Let all three go through the same nodes, compare, and return the stock result."""
    shared, local, stock = (run(clip) for clip in three)
    assert_same(local, stock)
    assert_same(shared, stock)
    return stock


def gguf_weights(clip: Any) -> list[Any]:
    from luna_collection.luna_daemon.gguf_models.weight import GgufWeight

    return [w for w in clip.cond_stage_model.parameters() if isinstance(w, GgufWeight)]


def test_a_t5_beside_a_clip_l(open_three):
    from comfy_extras.nodes_flux import CLIPTextEncodeFlux

    three = open_three("FLUX", "t5", "clip_l")
    plain = assert_all(three, encode)
    assert_all(three, lambda clip: CLIPTextEncodeFlux.execute(clip, "a cat", "a hat", 3.5).args[0])
    patched = assert_all(three, lambda clip: encode(with_t5_patch(clip)))
    assert_differ(plain, patched)
    assert_same(assert_all(three, encode), plain)


def test_a_t5_alone_and_beside_an_fp8_file(open_three):
    assert_all(open_three("MOCHI", "t5"), encode)
    assert_all(open_three("SD3", "t5", "clip_l_fp8", "clip_g"), encode)


def test_a_qwen3(open_three):
    three = open_three("LUMINA2", "qwen3")
    assert_all(three, encode)
    shapes = [
        {name: (w.shape, w.dtype) for name, w in clip.cond_stage_model.state_dict().items()}
        for clip in three
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_weights_stay_as_they_are_in_the_file(open_three, folder):
    _, local, stock = open_three("MOCHI", "t5")
    encode(local)
    kinds = {weight.kind for weight in gguf_weights(local)}
    assert kinds == {"Q4_0", "Q8_0", "Q4_K", "Q5_0"}
    assert local.patcher.model_size() < 0.35 * stock.patcher.model_size()
    assert torch.device("cpu") == gguf_weights(local)[0].device


def test_hooks(open_three):
    import comfy.hooks

    def hooked(clip: Any) -> Any:
        copy, donor = clip.clone(), with_t5_patch(clip)
        hook, group = comfy.hooks.WeightHook(), comfy.hooks.HookGroup()
        group.add(hook)
        copy.patcher.hook_patches[hook.hook_ref] = donor.patcher.patches
        copy.patcher.patches_uuid = donor.patcher.patches_uuid
        copy.patcher.forced_hooks = group
        return encode(copy)

    three = open_three("MOCHI", "t5")
    plain = assert_all(three, encode)
    assert_differ(assert_all(three, hooked), plain)
    assert_same(assert_all(three, encode), plain)


def test_saving_writes_the_values(open_three):
    shared, local, stock = open_three("MOCHI", "t5")
    saved = [clip.state_dict_for_saving() for clip in (shared, local, stock)]
    assert saved[0].keys() == saved[1].keys() == saved[2].keys()
    assert_same(saved[0], saved[2])
    assert_same(saved[1], saved[2])
