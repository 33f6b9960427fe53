from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.metadata.a1111 import looks_like_a1111, parse_a1111

TEXT = (
    "a cat,\nwatercolour <lora:ink:0.8>\nNegative prompt: blurry,\nlowres\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 18446744073709551615, "
    'Size: 832x1216, Model hash: abc, Model: some.model, Lora hashes: "ink: 1234, b: 5", '
    "Denoising strength: 0.4, Clip skip: 2, Version: v1.10"
)


def test_all_parts():
    found = parse_a1111(TEXT)
    assert found.positive == "a cat,\nwatercolour <lora:ink:0.8>"
    assert found.negative == "blurry,\nlowres"
    assert found.settings == {
        "seed": 2**64 - 1, "steps": 20, "cfg": 6.5, "sampler_name": "DPM++ 2M", "scheduler": "Karras",
        "denoise": 0.4, "clip_skip": 2, "model": "some.model", "model_hash": "abc",
    }  # fmt: skip
    assert (found.width, found.height) == (832, 1216)


def test_parts_may_be_missing():
    assert parse_a1111("a cat").positive == "a cat"
    only = parse_a1111("a cat\r\nSteps: 5, Seed: None, Size: big")
    assert (only.positive, only.negative, only.settings) == ("a cat", "", {"steps": 5})
    assert parse_a1111("Negative prompt: x\nSteps: 5").negative == "x"


def test_a_prompt_may_speak_of_steps():
    text = "stairs\nSteps: 3 of them\nNegative prompt: none\nSteps: 20, Seed: 1"
    assert parse_a1111(text).positive == "stairs\nSteps: 3 of them"
    assert parse_a1111(text).settings["steps"] == 20


@given(st.text(max_size=200))
def test_no_text_is_too_strange(text):
    parse_a1111(text)
    assert looks_like_a1111(f"x\nSteps: 1, {text}")
