"""The policy "local": what cannot be shared is loaded here, with every edit in effect."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ..engine.random_weights import text_lora
from .comparing import assert_both, assert_differ, decoded, encode, with_lora
from .conftest import open_pair, stock_vae, wait_until_released


class DoubledNorm(torch.nn.Module):
    """What a node may put in place of a norm: it has the norm's own weights."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.groups = norm.weight, norm.bias, norm.num_groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * torch.nn.functional.group_norm(x, self.groups, self.weight, self.bias)


def with_object_patch(vae: Any, name: str, make: Callable[[Any], Any]) -> Any:
    patched = copy.copy(vae)
    patched.patcher = vae.patcher.clone()
    patched.patcher.add_object_patch(name, make(vae.patcher.get_model_object(name)))
    return patched


def set_padding(vae: Any, mode: str) -> None:
    for module in vae.first_stage_model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.padding_mode = mode


def test_edits_inside_a_vae(local_models, notes, files, calls, caplog):
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
    (note,) = notes
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


@pytest.mark.parametrize("was_loaded", [False, True])
@pytest.mark.parametrize("is_touched_on_load", [False, True])
def test_an_object_patch_that_is_made_of_weights(
    local_models, notes, files, is_touched_on_load, was_loaded
):
    from comfy.patcher_extension import CallbacksMP
    from luna_collection.luna_daemon.proxy.opening import open_vae

    def in_other_layout(patcher: Any, *_: Any) -> None:
        patcher.model.decoder.conv_out.to(memory_format=torch.channels_last)

    pair = open_vae(local_models, files("vae")), stock_vae(files("vae"))
    if was_loaded:  # and then nothing is loaded for a clone, and its callbacks are not called
        assert_both(pair, decoded)
    patched = tuple(with_object_patch(vae, "decoder.norm_out", DoubledNorm) for vae in pair)
    if is_touched_on_load:
        for vae in patched:
            vae.patcher.add_callback(CallbacksMP.ON_LOAD, in_other_layout)
    doubled = assert_both(patched, decoded)
    assert_differ(doubled, assert_both(pair, decoded))
    assert len(notes) == 1


def test_a_weight_whose_module_was_replaced(local_models, files):
    from luna_collection.luna_daemon.proxy.opening import open_vae

    pair = open_vae(local_models, files("vae")), stock_vae(files("vae"))
    norms = [vae.first_stage_model.decoder.norm_out for vae in pair]
    weights = [norm.weight for norm in norms]
    patched = tuple(
        with_object_patch(vae, "decoder.norm_out", lambda norm: torch.nn.Identity()) for vae in pair
    )
    assert_both(patched, decoded)
    assert torch.equal(weights[0] * 2, weights[1] * 2)


@pytest.mark.parametrize("is_shallow", [False, True])
def test_an_encoder_that_was_copied_into_another_clip(local_models, notes, files, is_shallow):
    from comfy.sd1_clip import SD1ClipModel

    pair = open_pair(local_models, files("clip_l"))

    def with_other_tokens(clip: Any) -> Any:
        encoder = clip.cond_stage_model.clip_l
        transformer, encoder.transformer = encoder.transformer, None
        copied = copy.copy(encoder) if is_shallow else copy.deepcopy(encoder)
        if is_shallow:
            copied._modules = dict(copied._modules)
        encoder.transformer = copied.transformer = transformer
        copied.special_tokens = {**copied.special_tokens, "pad": 5}
        made = clip.clone()
        made.cond_stage_model = SD1ClipModel(device="meta")
        made.cond_stage_model.clip_l = copied
        return made

    changed = tuple(map(with_other_tokens, pair))
    assert_differ(assert_both(changed, encode), assert_both(pair, encode))
    assert len(notes) == 1


def test_replaced_code_of_comfyui_runs_here(local_models, files, monkeypatch):
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencodingEngineLegacy
    from luna_collection.luna_daemon.proxy.opening import open_vae

    for owner in (comfy.sd.VAE, AutoencodingEngineLegacy):
        pair = open_vae(local_models, files("vae")), stock_vae(files("vae"))
        plain = assert_both(pair, decoded)
        with monkeypatch.context() as patch:
            usual = owner.decode
            patch.setattr(owner, "decode", lambda *a, usual=usual, **k: usual(*a, **k) * 0.5)
            for _ in range(2):  # as it is brought here, and from then on
                assert_differ(assert_both(pair, decoded), plain)
        assert_both(pair, decoded)


@pytest.mark.parametrize("way", ["layout", "type", "weights", "some weights"])
def test_edits_of_all_weights(local_models, notes, files, way):
    from luna_collection.luna_daemon.proxy.opening import open_vae

    pair = open_vae(local_models, files("vae")), stock_vae(files("vae"))
    assert_both(pair, decoded)

    def edit(vae: Any) -> None:
        inner = vae.first_stage_model
        if way == "layout":
            inner.to(memory_format=torch.channels_last)
        elif way == "type":
            vae.vae_dtype = torch.bfloat16
            inner.bfloat16()
        elif way == "weights":
            inner.load_state_dict({name: weight * 1.25 for name, weight in vae.get_sd().items()})
        else:
            inner.decoder.conv_in.load_state_dict(
                {"weight": torch.ones(512, 4, 3, 3), "bias": torch.zeros(512)}
            )

    for vae in pair:
        edit(vae)
    assert_both(pair, decoded)
    assert len(notes) == 1


def test_a_patcher_of_a_nodes_own(local_models, files):
    from .test_proxy_edits import with_own_patcher

    def run(clip: Any) -> Any:
        return encode(with_own_patcher(clip)), encode(clip), encode(with_lora(clip, text_lora(5)))

    assert_both(open_pair(local_models, files("clip_l")), run)


def test_a_local_model_no_longer_claims_anything(local_models, files):
    from luna_collection.luna_daemon.proxy.opening import open_vae

    vae = open_vae(local_models, files("taesd"))
    assert local_models.roles()
    vae.first_stage_model.to(torch.bfloat16)
    wait_until_released(local_models)
