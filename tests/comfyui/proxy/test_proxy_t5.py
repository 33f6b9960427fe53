"""Families with a T5, which is narrow for this: whole, in fp8, and with patches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .comparing import assert_both, assert_differ, encode
from .narrow_encoders import T5_SIZES


@pytest.mark.parametrize("kind", ["fp16", "bf16", "fp8", "scaled fp8", "plain fp8"])
def test_flux(open_narrow, kind):
    from comfy_extras.nodes_flux import CLIPTextEncodeFlux

    pair = open_narrow("FLUX", "clip_l", f"t5 {kind}")
    ours, stock = (
        {name: (w.shape, w.dtype) for name, w in clip.cond_stage_model.state_dict().items()}
        for clip in pair
    )
    assert ours == stock
    plain = assert_both(pair, encode)
    assert_both(pair, lambda clip: CLIPTextEncodeFlux.execute(clip, "a cat", "a hat", 3.5).args[0])
    patched = assert_both(pair, lambda clip: encode(with_t5_patch(clip)))
    assert_differ(plain, patched)
    assert_both(pair, encode)


@pytest.mark.parametrize(
    "names", [("clip_l", "clip_g", "t5 fp16"), ("clip_l",)], ids=["whole", "without T5"]
)
def test_sd3(open_narrow, names):
    from comfy_extras.nodes_sd3 import CLIPTextEncodeSD3

    pair = open_narrow("SD3", *names)
    assert_both(pair, encode)
    texts = ("a cat", "a hat", "a long (text:1.2) about a cat", "none")
    both = assert_both(pair, lambda clip: CLIPTextEncodeSD3.execute(clip, *texts).args[0])
    if "t5 fp16" in names:
        patched = assert_both(pair, lambda clip: encode(with_t5_patch(clip), texts[2]))
        assert_differ(both, patched)


@pytest.mark.parametrize("clip_type", ["PIXART", "LTXV", "MOCHI", "CHROMA", "COGVIDEOX"])
def test_other_families(open_narrow, clip_type):
    assert_both(open_narrow(clip_type, "t5 fp16"), encode)


@pytest.mark.parametrize("text", ["", "a (photo:1.3) of a cat"])
@pytest.mark.parametrize(
    ("clip_type", "name"),
    [("WAN", "umt5"), ("LUMINA2", "gemma2"), ("PIXELDIT", "gemma2"), ("OMNIGEN2", "qwen2.5")],
)
def test_encoders_of_other_series(open_narrow, clip_type, name, text):
    """Some of them have their tokenizer in the file."""
    assert_both(open_narrow(clip_type, name), lambda clip: encode(clip, text))


def with_t5_patch(clip: Any) -> Any:
    """Patch a layer of the T5 as LoRA loaders do."""
    import comfy.weight_adapter

    generator = torch.Generator().manual_seed(2)
    shapes = ((128, 4), (4, T5_SIZES["d_model"]))
    up, down = (torch.randn(shape, generator=generator) * 0.2 for shape in shapes)
    adapter = comfy.weight_adapter.LoRAAdapter(set(), (up, down, 4.0, None, None, None))
    patched = clip.clone()
    name = "t5xxl.transformer.encoder.block.1.layer.0.SelfAttention.q.weight"
    assert patched.add_patches({name: adapter}, 0.8)
    return patched
