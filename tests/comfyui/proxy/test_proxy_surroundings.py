"""What is around a call in this process and matters there: settings of torch, random numbers, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ..engine import random_weights
from ..engine.random_weights import text_lora
from .comparing import assert_both, assert_differ, assert_same, decoded, encode, encoded, with_lora
from .conftest import open_pair, stock_vae
from .test_proxy_edits import refused


@contextmanager
def in_double_precision() -> Iterator[None]:
    """As nodes leave it that compute their samplers so."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def autocast() -> AbstractContextManager[Any]:
    context: AbstractContextManager[Any] = torch.autocast("cpu", dtype=torch.bfloat16)
    return context


def without_mkldnn() -> AbstractContextManager[Any]:
    context: AbstractContextManager[Any] = torch.backends.mkldnn.flags(enabled=False)
    return context


@pytest.mark.parametrize("around", [autocast, without_mkldnn, in_double_precision])
def test_settings_of_torch_come_along(clips, vaes, around):
    def run(use: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run_in_it(model: Any) -> Any:
            with around():
                return use(model)

        return run_in_it

    assert_both(vaes, run(decoded))
    assert_both(vaes, run(encoded))
    assert_both(clips, run(encode))
    assert_both(vaes, decoded)
    assert_both(clips, encode)


def test_results_under_other_settings_are_not_mixed_up(clips, vaes):
    patched = tuple(with_lora(clip, text_lora(17)) for clip in clips)

    def under_autocast(clip: Any) -> Any:
        with autocast():
            return encode(clip)

    for pair in (clips, patched):
        plain = assert_both(pair, encode)
        first = assert_both(pair, under_autocast)
        assert_differ(first, plain)
        assert_same(assert_both(pair, encode), plain)
        assert_same(under_autocast(pair[0]), first)
    with autocast():
        one = decoded(vaes[0])
    assert_differ(one, decoded(vaes[0]))


def test_loras_under_autocast_are_refused(clips, local_models, files):
    lora = text_lora(17)

    def put_on_in_it(clip: Any) -> Any:
        patched = with_lora(clip, lora)
        with autocast():
            inside = encode(patched)
        return inside, encode(patched)

    with refused("LoRAs", "autocast"):
        put_on_in_it(clips[0])
    assert_both(open_pair(local_models, files("clip_l")), put_on_in_it)


def test_random_numbers_go_on_where_they_were(models, folder):
    from luna_collection.luna_daemon.proxy.opening import open_vae

    file: Path = folder / "ltx.safetensors"
    weights, metadata = random_weights.ltx_vae()
    random_weights.save(weights, file, metadata=metadata)
    pair = open_vae(models, file), stock_vae(file)
    latent = {"samples": torch.randn(1, 128, 2, 2, 3, generator=torch.Generator().manual_seed(1))}

    def run(vae: Any) -> Any:
        torch.manual_seed(5)
        found = decoded(vae, latent), torch.rand(3), decoded(vae, latent)
        pixels = torch.rand(9, 64, 64, 3)
        return (
            *found,
            encoded(vae, pixels),
            vae.decode_tiled(latent["samples"], 2, 2, 1),
            torch.rand(3),
        )

    first, _, second, *_ = assert_both(pair, run)
    assert_differ(first, second)
    assert_both(pair, run)


def test_gradients_are_refused(vaes, models, local_models, files):
    from luna_collection.luna_daemon.proxy.opening import open_vae

    def gradient(vae: Any) -> torch.Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            latent = torch.ones(1, 4, 4, 4).requires_grad_()
            pixels = vae.first_stage_model.decode(latent)
            return torch.autograd.grad(pixels.float().sum(), latent)[0]

    with refused("gradients", "vae.safetensors"):
        gradient(vaes[0])
    with torch.inference_mode(False):
        pair = open_vae(local_models, files("vae")), stock_vae(files("vae"))
        for vae in pair:
            vae.first_stage_model.to(torch.float32)
    assert_both(pair, gradient)


@pytest.mark.parametrize("how", ["a function of torch", "a builtin", "a mode", "hooks"])
def test_code_around_all_of_torch_is_refused(clips, vaes, monkeypatch, how):
    from torch.overrides import TorchFunctionMode

    class Louder(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **(kwargs or {}))

    functional = torch.nn.functional
    attention, stacked = functional.scaled_dot_product_attention, functional.interpolate

    @contextmanager
    def around() -> Iterator[str]:
        with monkeypatch.context() as patch:
            if how == "a function of torch":
                patch.setattr(functional, "interpolate", lambda *a, **k: stacked(*a, **k) * 2)
                yield "functional.interpolate"
            elif how == "a builtin":
                patch.setattr(
                    functional,
                    "scaled_dot_product_attention",
                    lambda *a, **k: attention(*a, **k) * 2,
                )
                yield "functional.scaled_dot_product_attention"
            elif how == "a mode":
                with Louder():
                    yield "Louder"
            else:
                hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
                yield "hooks"
                hook.remove()

    with around() as name:
        with refused(name):
            decoded(vaes[0])
        with refused(name):
            encode(clips[0])
    with torch.device("cpu"):  # is a mode as well, and a harmless one
        assert_both(vaes, decoded)
    assert_both(clips, encode)
