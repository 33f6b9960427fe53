"""Z-Image's text encoder, a Qwen3 that is narrow for this: conditioning, and text that it writes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .comparing import assert_both, assert_differ, encode

SAMPLED = {
    "sampling_mode": "on",
    "temperature": 0.8,
    "top_k": 64,
    "top_p": 0.95,
    "min_p": 0.01,
    "repetition_penalty": 1.05,
    "seed": 5,
}


@pytest.fixture
def pair(open_narrow):
    return open_narrow("LUMINA2", "qwen3")


@pytest.mark.parametrize("text", ["", "a (photo:1.3) of a cat", "the cat on the mat " * 40])
def test_z_image(pair, text):
    assert type(pair[0].cond_stage_model.qwen3_4b).__name__ == "Qwen3_4BModel"
    assert_both(pair, lambda clip: encode(clip, text))


def test_a_lora_and_back(pair):
    plain = assert_both(pair, encode)
    assert_differ(plain, assert_both(pair, lambda clip: encode(with_patch(clip))))
    assert_both(pair, encode)


def test_any_other_clip_type_means_the_same(open_narrow):
    assert_both(open_narrow("STABLE_DIFFUSION", "qwen3"), encode)


@pytest.mark.parametrize("mode", [{"sampling_mode": "off"}, SAMPLED], ids=["greedy", "sampled"])
def test_text_generation(pair, mode):
    ours, stock = (generated(clip, mode) for clip in pair)
    assert ours == stock
    assert len(ours) > 0


def test_text_generation_with_a_lora(pair):
    ours, stock = (generated(with_patch(clip), SAMPLED) for clip in pair)
    assert ours == stock
    assert stock != generated(pair[1], {**SAMPLED, "seed": 6})


def generated(clip: Any, mode: dict[str, Any]) -> str:
    """TextGenerate."""
    from comfy_extras.nodes_textgen import TextGenerate

    (text,) = TextGenerate.execute(clip, "a cat", 2, mode).args
    return str(text)


def with_patch(clip: Any) -> Any:
    """Patch a layer as LoRA loaders do."""
    import comfy.weight_adapter

    generator = torch.Generator().manual_seed(2)
    up, down = (torch.randn(shape, generator=generator) * 0.3 for shape in ((256, 4), (4, 2560)))
    adapter = comfy.weight_adapter.LoRAAdapter(set(), (up, down, 4.0, None, None, None))
    patched = clip.clone()
    assert patched.add_patches(
        {"qwen3_4b.transformer.model.layers.1.self_attn.q_proj.weight": adapter}, 0.8
    )
    return patched
