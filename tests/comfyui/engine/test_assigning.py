"""Assigned weights and patches upon them, for encoders of which the daemon is never told to be small."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from . import random_weights
from .conftest import same

TEXT = "a cat on a mat"


def patched(clip: Any, seed: int) -> Any:
    """Return a clip with a LoRA of the T5 upon it."""
    generator = torch.Generator().manual_seed(seed)
    copy = clip.clone()
    patches = {
        name: ("diff", (torch.randn(weight.shape, generator=generator) * 0.01,))
        for name, weight in clip.patcher.model.state_dict().items()
        if name.startswith("t5xxl.") and name.endswith((".q.weight", ".wo.weight"))
    }
    assert len(copy.add_patches(patches, 0.7)) == 48
    return copy


def hooked(clip: Any, seed: int) -> Any:
    """Return a clip with a hook's patches upon it."""
    import comfy.hooks

    copy, donor = clip.clone(), patched(clip, seed)
    hook, group = comfy.hooks.WeightHook(), comfy.hooks.HookGroup()
    group.add(hook)
    copy.patcher.hook_patches[hook.hook_ref] = donor.patcher.patches
    copy.patcher.patches_uuid = donor.patcher.patches_uuid
    copy.patcher.forced_hooks = group
    return copy


def encoded(clip: Any) -> Any:
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(TEXT), return_pooled=True)


@pytest.mark.parametrize("kind", ["half", "fp8"])
def test_a_t5_is_assigned_and_patched_as_stock_does_it(files, tmp_path, kind):
    import comfy.sd
    from luna_collection.luna_daemon.engines.comfy.host_patcher import HostPatcher
    from luna_collection.luna_daemon.gguf_models.assigning import assigned_weights, finish

    weights = random_weights.narrow_t5()
    if kind == "fp8":
        weights = random_weights.quantised(weights)
    file = random_weights.save(weights, tmp_path / "t5xxl.safetensors", 8)
    options = {"t5xxl_model_config": random_weights.NARROW_T5}
    flux = comfy.sd.CLIPType.FLUX

    def load() -> Any:
        paths = [str(files("clip_l")), str(file)]
        with torch.inference_mode():  # as ComfyUI does whatever it does
            return comfy.sd.load_clip(paths, clip_type=flux, model_options=dict(options))

    stock = load()
    with assigned_weights(torch.float32, HostPatcher):
        ours = load()
    finish(ours.patcher, HostPatcher)
    layer = ours.cond_stage_model.t5xxl.transformer.encoder.block[0].layer[0].SelfAttention.q
    assert hasattr(layer, "quant_format") is (kind == "fp8")
    plain = encoded(stock)
    assert same(encoded(ours), plain)
    # ComfyUI itself cannot lay hooks upon quantised weights.
    for change in (patched, hooked) if kind == "half" else (patched,):
        assert same(encoded(change(ours, 1)), found := encoded(change(stock, 1)))
        assert not same(found, plain)
        assert same(encoded(ours), plain)
