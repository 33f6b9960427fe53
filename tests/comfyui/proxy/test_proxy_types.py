"""Element types: those that weights are stored in, and those that ComfyUI may be told to keep them in."""

from __future__ import annotations

import pytest
import torch

from ..engine.random_weights import text_lora
from .comparing import assert_both, assert_differ, decoded, encode, encoded, with_lora
from .conftest import open_pair, stock_vae


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str
)
def test_a_text_encoder_is_kept_in_the_chosen_type(models, files, dtype):
    pair = open_pair(models, files("clip_l"), dtype=dtype)
    weight = "transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    for clip in pair:
        assert clip.cond_stage_model.clip_l.state_dict()[weight].dtype == dtype
    plain = assert_both(pair, encode)
    assert_differ(
        plain, assert_both(pair, lambda clip: encode(with_lora(clip, text_lora(5, layers=1))))
    )
    assert_both(pair, encode)


def test_a_text_encoder_that_is_stored_in_eight_bits(models, files):
    pair = open_pair(models, files("clip_l_fp8"))
    assert_both(pair, encode)
    assert_both(pair, lambda clip: encode(with_lora(clip, text_lora(5, layers=1))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_vae_runs_in_the_chosen_type(models, files, monkeypatch, dtype):
    import comfy.model_management
    from luna_collection.luna_daemon.proxy.opening import open_vae

    monkeypatch.setattr(comfy.model_management, "vae_dtype", lambda *_, **__: dtype)
    pair = open_vae(models, files("taesd")), stock_vae(files("taesd"))
    assert [vae.vae_dtype for vae in pair] == [dtype, dtype]
    assert_both(pair, lambda vae: encoded(vae, decoded(vae)))
