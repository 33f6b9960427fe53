"""Text encoders that the daemon holds in fp32: the same values, but for what patches are rounded to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .conftest import same
from .engine_client import SentRecipe
from .random_weights import text_lora

TEXT = "a cat (with a hat:1.2)"
# Of the largest value: what rounding patched weights to half precision makes of twelve layers.
TOLERANCE = 2e-3


def encoded(clip: Any) -> Any:
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(TEXT), return_pooled=True)


def with_lora(clip: Any) -> Any:
    import comfy.sd

    return comfy.sd.load_lora_for_models(None, clip, text_lora(1), 0, 0.8)[1]


@pytest.mark.parametrize("encoders", [("clip_l",), ("clip_l", "clip_g"), ("clip_l_fp32",)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_plain_encode_is_bit_for_bit_stock_comfyuis(
    client, load, files, stock_clip, encoders, dtype
):
    paths = [files(name) for name in encoders]
    stock = stock_clip(*paths, dtype=getattr(torch, dtype))
    held = load("clip", *paths, precision="float32", dtype=dtype)
    got = client.call(held, "encode_token_weights", stock.tokenize(TEXT))
    assert same(got, encoded(stock))


def test_with_a_patch_set_it_is_what_stock_gives_with_fp32_weights(client, load, files, stock_clip):
    half, full = (stock_clip(files("clip_l"), dtype=t) for t in (torch.float16, torch.float32))
    patched = with_lora(full)
    held = load("clip", files("clip_l"), precision="float32", dtype="float16")
    tokens = half.tokenize(TEXT)
    recipe = SentRecipe(patched.patcher.patches)
    got = client.call(held, "encode_token_weights", tokens, recipe=recipe)
    assert same(got, encoded(patched))
    rounded = encoded(with_lora(half))
    assert not same(got, rounded), "else this option need not be one"
    for one, other in zip(got, rounded, strict=True):
        assert (one - other).abs().max() <= TOLERANCE * other.abs().max()
    assert same(client.call(held, "encode_token_weights", tokens), encoded(half))


def test_what_comfyui_does_not_convert_stays_as_it_is(load, files):
    plain = load("clip", files("clip_l"), dtype="float16")
    held = load("clip", files("clip_l"), precision="float32", dtype="float16")
    before, now = (r.model.base.model.state_dict() for r in (plain, held))
    widened = {name for name in now if now[name].dtype != before[name].dtype}
    assert widened == {name for name, weight in before.items() if weight.dtype == torch.float16}
    assert held.nbytes == sum(weight.nbytes for weight in now.values())
    assert held.nbytes > 1.9 * plain.nbytes
