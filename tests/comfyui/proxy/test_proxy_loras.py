"""LoRAs as the nodes put them on: adapters of our own on a text encoder that the daemon holds."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from ..engine.random_weights import text_lora
from .comparing import assert_differ, assert_same, encode, tensors_of
from .conftest import open_pair


def loaded(clip: Any, seed: int) -> dict[str, Any]:
    """A LoRA's patches for a text encoder, as ComfyUI loads them."""
    import comfy.lora

    names = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
    patches: dict[str, Any] = comfy.lora.load_lora(text_lora(seed), names)
    return patches


def with_loras(clip: Any, strengths: Mapping[int, float], how: str) -> Any:
    """Put LoRAs on a clone: seed → strength; how: "stock", "exact" or "fast"."""
    from luna_collection.nodes.lora.adapters import adapters_for, free_after_loading

    clone = clip.clone()
    for seed, strength in strengths.items():
        patches = loaded(clip, seed)
        if how != "stock":
            patches = adapters_for(patches, fast=how == "fast")
        assert len(clone.add_patches(patches, strength)) == len(patches)
    free_after_loading(clone.patcher)
    return clone


@pytest.mark.parametrize("count", [1, 3, 7])
def test_exact_adapters_are_a_chain_of_stock_loras(clips, count):
    ours, stock = clips
    dice = random.Random(count)
    for number in range(2):
        strengths = {seed: dice.uniform(-1, 1.5) for seed in range(count)}
        text = f"{count} LoRAs, time {number}"
        expected = encode(with_loras(stock, strengths, "stock"), text)
        assert_same(encode(with_loras(ours, strengths, "exact"), text), expected)
        assert_same(encode(with_loras(ours, strengths, "stock"), text), expected)


def test_exact_and_stock_adapters_are_one_patch_set(clips):
    ours = clips[0]
    digests = []
    for how in ("stock", "exact", "fast"):
        clone = with_loras(ours, {1: 0.5}, how)
        encode(clone, how)
        patch_set = clone.patcher.skeleton.patch_set()
        digests.append((patch_set.digest, patch_set.blobs.keys()))
    assert digests[0] == digests[1]
    assert digests[1][0] != digests[2][0]
    assert digests[1][1] == digests[2][1], "the tensors are the same, and are not sent again"


def test_fast_adapters_are_fast_in_the_daemon_and_here(clips):
    """Each in a way of its own: alike, but not bit for bit."""
    ours, stock = clips
    strengths = {1: 0.7, 2: -0.4, 3: 1.1}
    exact = encode(with_loras(stock, strengths, "stock"))
    fast = encode(with_loras(stock, strengths, "fast"))
    assert_differ(fast, exact)
    from_daemon = encode(with_loras(ours, strengths, "fast"))
    assert_differ(from_daemon, exact)
    for one, other in zip(tensors_of(from_daemon), tensors_of(exact), strict=True):
        assert torch.allclose(one, other, atol=0.05)
    assert_same(encode(with_loras(ours, strengths, "exact")), exact)


def test_two_workflows_take_turns_with_sets_of_their_own(calls, files):
    from luna_collection.luna_daemon.proxy.models import DaemonModels

    dice, wrong = random.Random(3), 0
    pairs = [
        open_pair(DaemonModels(calls, f"turns {name}", "SD1.5"), files("clip_l")) for name in "ab"
    ]
    for number in range(6):
        ours, stock = pairs[number % 2]
        strengths = {seed: dice.uniform(-1, 1) for seed in ((1, 2, 3), (3, 4))[number % 2]}
        expected = encode(with_loras(stock, strengths, "stock"))
        got = encode(with_loras(ours, strengths, "exact"))
        wrong += not all(map(torch.equal, tensors_of(got), tensors_of(expected)))
    assert wrong == 0
    for (ours, stock), text in zip(pairs, ("the base", "the base again"), strict=True):
        assert_same(encode(ours, text), encode(stock, text))
