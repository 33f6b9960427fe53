"""The policy "local": what cannot be shared is loaded here, with every edit in effect."""

from __future__ import annotations

import copy
from typing import Any

import torch

from ..engine.random_weights import text_lora
from .comparing import assert_both, assert_differ, decoded, encode, with_lora
from .conftest import open_pair, stock_vae, wait_until_released


def set_padding(vae: Any, mode: str) -> None:
    for module in vae.first_stage_model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.padding_mode = mode


def test_edits_inside_a_vae(local_models, files, calls, caplog):
    from luna_collection.luna_daemon.proxy.opening import open_vae

    pair = open_vae(local_models, files("vae")), stock_vae(files("vae"))
    others = tuple(copy.copy(vae) for vae in pair)
    for other in others:
        other.patcher = other.patcher.clone()
    plain = assert_both(pair, decoded)
    for vae in pair:
        set_padding(vae, "circular")
    before = len(calls.made)
    assert_differ(assert_both(pair, decoded), plain)
    assert_both(others, decoded)
    assert len(calls.made) == before
    (note,) = local_models.take_notes()
    assert "vae.safetensors" in note
    assert "padding_mode" in note
    assert sum(note in record.message for record in caplog.records) == 1


def test_a_touched_weight_with_a_lora_that_is_loaded(local_models, files):
    pair = open_pair(local_models, files("clip_l"))
    patched = tuple(with_lora(clip, text_lora(5)) for clip in pair)
    assert_both(patched, encode)

    def row(clip: Any) -> torch.Tensor:
        table = clip.cond_stage_model.clip_l.transformer.get_input_embeddings()
        found: torch.Tensor = table.weight[5] * 2
        return found

    assert torch.equal(row(pair[0]), row(pair[1]))
    assert_both(patched, encode)
    assert_both(pair, encode)


def test_a_local_model_no_longer_claims_anything(local_models, files):
    from luna_collection.luna_daemon.proxy.opening import open_vae

    vae = open_vae(local_models, files("taesd"))
    assert local_models.roles()
    vae.first_stage_model.to(torch.float32)
    wait_until_released(local_models)
