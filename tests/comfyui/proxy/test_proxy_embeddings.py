"""Textual inversions: words that a file teaches, in a prompt with whatever is around them."""

from __future__ import annotations

from typing import Any

import pytest

from ..engine.random_weights import text_lora
from .comparing import assert_both, assert_differ, encode, with_lora
from .conftest import open_pair


@pytest.fixture(scope="module")
def small(models: Any, files: Any, embeddings: list[str]) -> tuple[Any, Any]:
    return open_pair(models, files("clip_l"), embeddings=embeddings)


@pytest.mark.parametrize(
    "text",
    [
        "embedding:mine",
        "a embedding:mine, cat",
        "a (embedding:mine:1.2) cat",
        "((embedding:mine.safetensors)) of [embedding:mine] and a (cat:0.6)",
        "word " * 76 + "embedding:mine and more",
    ],
)
def test_sd15(small, text):
    found = assert_both(small, lambda clip: encode(clip, text))
    assert_differ(found, encode(small[1], text.replace("embedding:mine", "")))
    assert_both(small, lambda clip: encode(with_lora(clip, text_lora(5)), text))


def test_an_embedding_that_is_not_there_is_left_out_as_comfyui_does_it(small):
    assert_both(small, lambda clip: encode(clip, "a embedding:nobodys cat"))


def test_sdxl_takes_one_for_each_encoder(sdxl):
    from comfy_extras.nodes_clip_sdxl import CLIPTextEncodeSDXL

    plain = assert_both(sdxl, lambda clip: encode(clip, "a cat"))
    found = assert_both(sdxl, lambda clip: encode(clip, "a (embedding:both:1.1) cat"))
    assert_differ(plain, found)
    sizes = (64, 64, 0, 0, 64, 64)
    texts = ("a cat", "a embedding:both painting")
    assert_both(sdxl, lambda clip: CLIPTextEncodeSDXL.execute(clip, *sizes, *texts).args)
