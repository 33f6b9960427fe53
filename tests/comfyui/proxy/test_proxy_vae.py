"""VAEs in the daemon give what ComfyUI's own give, also in chains of nodes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from .comparing import assert_both, assert_differ, assert_same, decoded, encoded, image, latent
from .conftest import stock_vae


def test_it_is_a_vae(vaes):
    import comfy.sd

    assert isinstance(vaes[0], comfy.sd.VAE)
    ours, stock = (vars(vae) for vae in vaes)
    assert stock.keys() <= ours.keys()
    for name in stock.keys() - {"first_stage_model", "patcher"}:
        if not callable(stock[name]):
            assert ours[name] == stock[name], name
    for name in ("spacial_compression_decode", "temporal_compression_decode", "vae_output_dtype"):
        if hasattr(vaes[1], name):  # releases differ
            assert getattr(vaes[0], name)() == getattr(vaes[1], name)()


def test_decode_and_encode(vaes):
    assert_both(vaes, decoded)
    assert_both(vaes, encoded)


def test_tiled(vaes):
    import nodes

    large = {"samples": torch.randn(1, 4, 10, 9, generator=torch.Generator().manual_seed(1))}
    assert_both(vaes, lambda v: nodes.VAEDecodeTiled().decode(v, large, 64, 16))
    assert_both(vaes, lambda v: nodes.VAEEncodeTiled().encode(v, image(72, 66), 64, 16)[0])
    assert_both(vaes, lambda v: v.decode_tiled_(latent()["samples"], 4, 4, 1))


def test_inpaint(vaes):
    import nodes

    mask = torch.zeros(1, 44, 34)
    mask[:, 10:20, 8:30] = 1
    node = nodes.VAEEncodeForInpaint()
    assert_both(vaes, lambda v: node.encode(v, image(), mask.clone())[0])


@pytest.mark.parametrize("noise_mask", [True, False])
def test_inpaint_conditioning(vaes, noise_mask):
    import nodes

    mask = torch.zeros(1, 44, 34)
    mask[:, 10:20, 8:30] = 1
    nothing = [[torch.zeros(1, 77, 768), {}]]
    node = nodes.InpaintModelConditioning()

    def run(vae: Any) -> Any:
        return node.encode(nothing, nothing, image(), vae, mask.clone(), noise_mask)

    assert_both(vaes, run)


def test_the_inner_model(vaes):
    def run(vae: Any) -> Any:
        inner = vae.first_stage_model
        samples = latent()["samples"].to(vae.vae_dtype)
        pixels = image(32, 32).movedim(-1, 1).to(vae.vae_dtype)
        # ComfyUI's `encode` gives half of a larger tensor; what travels has no holes, in the same order.
        return inner.decode(samples), inner.encode(pixels).clone()

    assert_both(vaes, run)


@pytest.mark.parametrize(
    "between", ["nothing", "scale", "crop", "flip", "repeat", "expanded", "strided"]
)
def test_layouts_survive_chains_of_nodes(vaes, between):
    from nodes import ImageScale

    steps = {
        "nothing": lambda pixels: pixels,
        "scale": lambda p: ImageScale().upscale(p, "bilinear", 40, 32, "disabled")[0],
        "crop": lambda p: p[:, 5:29, 3:27],  # what ImageCrop gives
        "flip": lambda p: p.flip(2),
        "repeat": lambda p: p.repeat(2, 1, 1, 1),
        "expanded": lambda p: p[..., :1].expand(-1, -1, -1, 3),
        "strided": lambda p: torch.cat((p, p), dim=-1)[..., ::2],
    }
    assert_both(vaes, lambda vae: encoded(vae, steps[between](decoded(vae))))


def test_decode_with_patched_weights_between(vaes):
    """decode → encode with other weights → decode: each call has the weights of its own patcher."""

    def run(vae: Any) -> Any:
        patched = with_patch(vae)
        pixels = decoded(vae)
        again = decoded(patched, encoded(patched, pixels))
        return pixels, again, decoded(vae)

    first, second, third = assert_both(vaes, run)
    assert_differ(first, second[:, :40, :32])
    assert_same(first, third)


def test_calls_follow_the_patcher_loaded_last(vaes):
    import comfy.model_management

    def run(vae: Any) -> Any:
        patched = with_patch(vae)
        samples = latent()["samples"].to(vae.vae_dtype)
        comfy.model_management.load_models_gpu([patched.patcher])
        one = vae.first_stage_model.decode(samples)
        comfy.model_management.load_models_gpu([vae.patcher])
        return one, vae.first_stage_model.decode(samples), decoded(patched), decoded(vae)

    one, other, *_ = assert_both(vaes, run)
    assert_differ(one, other)


def test_settings_of_the_object_itself_are_kept(vaes):
    def run(vae: Any) -> Any:
        darker = copy.copy(vae)
        usual = vae.process_output
        darker.process_output = lambda pixels: usual(pixels).mul_(0.5)
        return decoded(darker)

    assert_differ(assert_both(vaes, run), decoded(vaes[1]))


def test_without_memory_for_the_whole_it_goes_on_in_tiles(vaes, calls, monkeypatch):
    from luna_collection.luna_daemon.errors import OutOfMemoryError

    def sharpened(vae: Any) -> Any:  # so that ComfyUI's own decoding runs here
        other = copy.copy(vae)
        other.process_output = lambda pixels: pixels.mul_(0.5)
        return other

    def short_of_memory(*call: Any, **options: Any) -> Any:
        patch.undo()
        raise OutOfMemoryError("There is no room.")

    ours, stock = map(sharpened, vaes)
    with monkeypatch.context() as patch:
        patch.setattr(calls, "call", short_of_memory)
        assert_same(decoded(ours), stock.decode_tiled(latent()["samples"]))


def test_a_call_that_fails_is_the_error_that_nodes_expect(vaes):
    for vae in vaes:
        with pytest.raises(RuntimeError, match="channels"):
            vae.decode(torch.zeros(1, 16, 4, 4))
    assert_both(vaes, decoded)


@pytest.mark.parametrize("name", ["taesd", "vae_16"])
def test_other_vaes(models, files, name):
    from luna_collection.luna_daemon.proxy.opening import open_vae

    pair = open_vae(models, files(name)), stock_vae(files(name))
    channels = pair[1].latent_channels
    assert_both(pair, lambda vae: decoded(vae, latent(channels)))
    assert_both(pair, encoded)


def with_patch(vae: Any) -> Any:
    """Return a copy of a VAE with other weights, as SUPIR's nodes make it."""
    patched = copy.copy(vae)
    patched.patcher = vae.patcher.clone()
    patch = {
        "decoder.conv_in.weight": ("diff", (torch.full((512, 4, 3, 3), 0.05),)),
        "encoder.conv_in.weight": (torch.full((128, 3, 3, 3), 0.01),),
    }
    patched.patcher.add_patches(patch, 1.0, 1.0)
    return patched
