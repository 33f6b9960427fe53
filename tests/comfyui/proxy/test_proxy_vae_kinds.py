"""VAEs of other kinds in the daemon, small ones of each: their latents and pictures are shaped otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ..engine.random_weights import Weights, random_weights, save
from .comparing import assert_both
from .conftest import stock_vae


def taehv() -> Weights:
    from comfy.taesd.taehv import TAEHV

    with torch.device("meta"):
        module = TAEHV(latent_channels=16, latent_format=None)
    return random_weights(module, torch.float16, 32, 0.06)


def cascade_a() -> Weights:
    from comfy.ldm.cascade.stage_a import StageA

    with torch.device("meta"):
        module = StageA()
    return with_running_norms(module, 33)


def cascade_c() -> Weights:
    from comfy.ldm.cascade.stage_c_coder import StageC_coder

    with torch.device("meta"):
        module = StageC_coder()
    return with_running_norms(module, 34)


def with_running_norms(module: torch.nn.Module, seed: int) -> Weights:
    """Return random weights in which variances are positive and counts are whole."""
    weights = random_weights(module, torch.float32, seed, 0.05)
    for name, own in module.state_dict().items():
        if name.endswith("running_var"):
            weights[name] = weights[name].abs() + 1
        elif not own.is_floating_point():
            weights[name] = torch.zeros(own.shape, dtype=own.dtype)
    return weights


@pytest.fixture(params=[taehv, cascade_a, cascade_c], ids=lambda make: make.__name__)
def pair(request: pytest.FixtureRequest, models: Any, folder: Path) -> tuple[Any, Any]:
    """Return such a VAE in the daemon, and the same from ComfyUI's own loader."""
    from luna_collection.luna_daemon.proxy.opening import open_vae

    make: Callable[[], Weights] = request.param
    path = save(make(), folder / f"{make.__name__}.safetensors")
    return open_vae(models, path), stock_vae(path)


def test_it_is_described_and_runs_as_the_stock_one(pair):
    names = ("latent_dim", "latent_channels", "output_channels", "upscale_index_formula")
    for name in (*names, "downscale_index_formula", "vae_dtype", "not_video"):
        assert getattr(pair[0], name) == getattr(pair[1], name)
    generator = torch.Generator().manual_seed(1)
    sides = (3, 5, 4) if pair[1].latent_dim == 3 else (6, 5)
    latent = torch.randn(1, pair[1].latent_channels, *sides, generator=generator)
    frames = torch.rand(9, 70, 66, 3, generator=generator)
    pixels = frames if pair[1].latent_dim == 3 else frames[:1]
    assert_both(pair, lambda vae: vae.decode(latent))
    assert_both(pair, lambda vae: vae.encode(pixels))
    assert_both(pair, lambda vae: vae.decode_tiled(latent, tile_x=4, tile_y=4, overlap=1))
    assert_both(pair, lambda vae: vae.get_sd())
