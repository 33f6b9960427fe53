"""A video VAE in the daemon: Wan 2.1's, whose width ComfyUI reads from the file."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .comparing import assert_both, assert_differ, assert_same, decoded, encoded
from .conftest import stock_vae


@pytest.fixture(scope="module")
def pair(models: Any, files: Any) -> tuple[Any, Any]:
    from luna_collection.luna_daemon.proxy.opening import open_vae

    return open_vae(models, files("wan")), stock_vae(files("wan"))


def clip_latent(frames: int = 3, height: int = 5, width: int = 4) -> dict[str, torch.Tensor]:
    """Return the latent of a short clip."""
    generator = torch.Generator().manual_seed(1)
    return {"samples": torch.randn(1, 16, frames, height, width, generator=generator)}


def frames(count: int, height: int = 40, width: int = 34) -> torch.Tensor:
    """Return a clip as nodes pass it: an image for each frame."""
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(2))


def test_it_describes_itself_as_the_stock_one(pair):
    for name in ("latent_dim", "latent_channels", "output_channels", "downscale_index_formula"):
        assert getattr(pair[0], name) == getattr(pair[1], name)
    for vae in pair:
        assert vae.temporal_compression_decode() == 4
        assert vae.spacial_compression_encode() == 8


@pytest.mark.parametrize("count", [1, 2, 3])
def test_decode(pair, count):
    found = assert_both(pair, lambda vae: decoded(vae, clip_latent(count)))
    assert found.shape == (4 * count - 3, 40, 32, 3)


@pytest.mark.parametrize("count", [1, 5, 7])
def test_encode(pair, count):
    found = assert_both(pair, lambda vae: encoded(vae, frames(count)))
    assert found["samples"].shape[2] == (count + 3) // 4


def test_tiles_in_space_and_time(pair):
    import nodes

    long = clip_latent(4, 9, 9)
    whole = decoded(pair[1], long)
    tiled = assert_both(pair, lambda v: nodes.VAEDecodeTiled().decode(v, long, 64, 16, 8, 4))
    assert_differ(whole, tiled)
    pixels = frames(9, 72, 64)
    assert_both(pair, lambda v: nodes.VAEEncodeTiled().encode(v, pixels, 64, 16, 8, 4)[0])


def test_chains_keep_their_layout(pair):
    def run(vae: Any) -> Any:
        pixels = decoded(vae, clip_latent())
        again = encoded(vae, pixels[2:7])
        return pixels, again, decoded(vae, again)

    first, _, last = assert_both(pair, run)
    assert_differ(first, last)


def test_patched_weights_and_back(pair):
    plain = decoded(pair[1], clip_latent())

    def run(vae: Any) -> Any:
        import copy

        patched = copy.copy(vae)
        patched.patcher = vae.patcher.clone()
        weight = vae.first_stage_model.state_dict()["decoder.conv1.weight"]
        patch = {"decoder.conv1.weight": ("diff", (torch.full(weight.shape, 0.02),))}
        patched.patcher.add_patches(patch)
        return decoded(patched, clip_latent()), decoded(vae, clip_latent())

    patched, again = assert_both(pair, run)
    assert_differ(patched, plain)
    assert_same(again, plain)


def test_image_to_video_conditioning(pair):
    from comfy_extras.nodes_wan import WanImageToVideo

    def run(vae: Any) -> Any:
        nothing = [[torch.zeros(1, 8, 32), {}]]
        sizes = (48, 32, 9, 1)
        return WanImageToVideo.execute(nothing, nothing, vae, *sizes, start_image=frames(2)).args

    assert_both(pair, run)
