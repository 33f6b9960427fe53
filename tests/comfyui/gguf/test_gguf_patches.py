"""LoRAs, hooks and memory care on models from GGUF files: as on the dequantised model, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ..loras.conftest import assert_weights
from .conftest import runs
from .test_gguf_models import values, weights_of

FAMILIES = ("sd15", "sdxl", "sd3", "wan")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def random_lora(model: Any, seed: int, rank: int = 4) -> dict[str, torch.Tensor]:
    """Return a LoRA for many layers of a model, convolutions among them, and a bias."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, weight in list(model.model.state_dict().items())[::3]:
        name = key.removeprefix("diffusion_model.")
        if not key.endswith(".weight") or weight.dim() not in (2, 4) or weight.numel() < 1024:
            continue
        layer = name.removesuffix(".weight")
        down = torch.randn((rank, *weight.shape[1:]), generator=generator) * 0.05
        up = torch.randn((weight.shape[0], rank, *[1] * (weight.dim() - 2)), generator=generator)
        weights[f"diffusion_model.{layer}.lora_down.weight"] = down.to(torch.float16)
        weights[f"diffusion_model.{layer}.lora_up.weight"] = (up * 0.05).to(torch.float16)
        weights[f"diffusion_model.{layer}.alpha"] = torch.tensor(2.0)
        if (
            weights[f"diffusion_model.{layer}.alpha"]
            and f"{key[:-6]}bias" in model.model.state_dict()
        ):
            diff = torch.randn(weight.shape[0], generator=generator) * 0.05
            weights[f"diffusion_model.{layer}.diff_b"] = diff
    assert len(weights) > 10
    return weights


def with_stock_lora(model: Any, weights: dict[str, torch.Tensor], strength: float) -> Any:
    import comfy.sd

    return comfy.sd.load_lora_for_models(model, None, weights, strength, 0.0)[0]


def with_our_lora(model: Any, weights: dict[str, torch.Tensor], strength: float) -> Any:
    """As the config gateway does it."""
    import comfy.lora
    import comfy.lora_convert
    from luna_collection.nodes.lora.adapters import adapters_for, free_after_loading

    names = comfy.lora.model_lora_keys_unet(model.model, {})
    loaded = comfy.lora.load_lora(comfy.lora_convert.convert_lora(weights), names)
    clone = model.clone()
    clone.add_patches(adapters_for(loaded, fast=False), strength)
    free_after_loading(clone)
    return clone


@pytest.mark.parametrize("put_on", [with_stock_lora, with_our_lora])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_lora_is_equal(pair_of, family, dtype, put_on):
    pair = pair_of(family)
    ours, stock = pair.ours(dtype=dtype), pair.stock(dtype=dtype)
    lora, other = random_lora(stock, 1), random_lora(stock, 2)
    plain = runs(ours, family)
    patched = put_on(put_on(ours, lora, 0.8), other, -0.4)
    wanted = with_stock_lora(with_stock_lora(stock, lora, 0.8), other, -0.4)
    result = runs(patched, family)
    assert torch.equal(result, runs(wanted, family))
    assert not torch.equal(result, plain)
    assert_weights(values(patched), values(wanted))
    assert torch.equal(runs(ours, family), plain)
    assert not any(weight.steps for weight in weights_of(ours))


def test_patched_weights_are_still_bytes(pair_of):
    ours = pair_of("sd15").ours()
    size, count = ours.model_size(), len(weights_of(ours))
    patched = with_stock_lora(ours, random_lora(ours, 1), 1.0)
    runs(patched, "sd15")
    assert len(weights_of(patched)) == count
    assert any(weight.steps for weight in weights_of(patched))
    patched.size = 0  # count again
    assert patched.model_size() == size


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr", "dora", "diff", "set"])
def test_all_kinds_of_patches_are_equal(pair_of, kind):
    pair = pair_of("sd15")
    ours, stock = pair.ours(dtype=torch.float16), pair.stock(dtype=torch.float16)
    patch = some_patch(kind, values(stock)[WEIGHT])
    results = []
    for model in (ours, stock):
        clone = model.clone()
        assert clone.add_patches({WEIGHT: patch}, 0.7, 0.9)
        results.append(runs(clone, "sd15"))
    assert torch.equal(*results)
    assert not torch.equal(results[0], runs(ours, "sd15"))


WEIGHT = "diffusion_model.time_embed.2.weight"


def some_patch(kind: str, weight: torch.Tensor) -> Any:
    import comfy.weight_adapter

    generator = torch.Generator().manual_seed(9)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    rows, columns = weight.shape
    if kind == "diff":
        return (random(rows, columns),)
    if kind == "set":
        return ("set", (random(rows, columns),))
    up, down = random(rows, 4), random(4, columns)
    if kind in ("lora", "dora"):
        scale = random(rows, 1).abs() + 1.0 if kind == "dora" else None
        return comfy.weight_adapter.LoRAAdapter(set(), (up, down, 4.0, None, scale, None))
    if kind == "loha":
        other = random(rows, 4), random(4, columns)
        return comfy.weight_adapter.LoHaAdapter(set(), (up, down, 4.0, *other, None, None, None))
    parts = random(rows // 8, columns // 8), random(8, 8)
    return comfy.weight_adapter.LoKrAdapter(set(), (*parts, None, *[None] * 6))


def test_a_patch_that_makes_a_weight_larger(pair_of):
    import comfy.model_management

    pair = pair_of("sd15")
    patched = []
    for model in (pair.ours(), pair.stock()):
        rows, columns = values(model)[WEIGHT].shape
        clone = model.clone()
        larger = torch.ones(rows, columns + 32)
        assert clone.add_patches({WEIGHT: ("diff", (larger, {"pad_weight": True}))}, 0.5)
        comfy.model_management.load_models_gpu([clone])
        patched.append(values(clone)[WEIGHT])
        comfy.model_management.load_models_gpu([model])
        assert values(model)[WEIGHT].shape == (rows, columns)
    assert patched[0].shape == larger.shape
    assert torch.equal(*patched)


def test_merging_with_a_plain_model(pair_of):
    from comfy_extras.nodes_model_merging import ModelMergeSimple, ModelSubtract

    pair = pair_of("sd15")
    other = pair_of("sd15", ["Q8_0"]).stock()
    ours, stock = pair.ours(), pair.stock()
    for node, ratio in ((ModelMergeSimple().merge, 0.3), (ModelSubtract().merge, 0.5)):
        wanted = runs(node(stock, other, ratio)[0], "sd15")
        assert torch.equal(runs(node(ours, other, ratio)[0], "sd15"), wanted)
        wanted = runs(node(other, stock, ratio)[0], "sd15")
        assert torch.equal(runs(node(other, ours, ratio)[0], "sd15"), wanted)
        lora = random_lora(stock, 3)
        wanted = runs(node(other, with_stock_lora(stock, lora, 0.5), ratio)[0], "sd15")
        merged = node(other, with_stock_lora(ours, lora, 0.5), ratio)[0]
        assert torch.equal(runs(merged, "sd15"), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_partly_loaded_models_give_the_same(pair_of, dtype):
    """What does not fit on the device is treated as if it did: only the place differs."""
    pair = pair_of("sd15")
    ours, stock = pair.ours(dtype=dtype), pair.stock(dtype=dtype)
    lora = random_lora(stock, 1)
    wanted = runs(with_stock_lora(stock, lora, 0.8), "sd15")
    patched = with_stock_lora(ours, lora, 0.8)
    given = small_inputs()
    device = torch.device("cpu")
    for part in (0.01, 0.2, 0.4):
        patched.partially_load(device, int(patched.model_size() * part))
        assert (patched.model.model_lowvram, part) == (True, part)
        assert torch.equal(given(patched), wanted)
        assert not counts_bytes(patched) or patched.loaded_size() < patched.model_size()
    patched.partially_load(device, patched.model_size() * 2)
    assert not patched.model.model_lowvram
    assert torch.equal(given(patched), wanted)
    assert patched.partially_unload(device, patched.model_size() // 2) > 0
    assert patched.model.model_lowvram
    assert torch.equal(given(patched), wanted)
    assert_weights(values(patched), values(with_stock_loaded(stock, lora)))
    one = "diffusion_model.time_embed.0.weight"
    again = patched.patch_weight_to_device(one, device, return_weight=True)
    assert torch.equal(again, values(patched)[one])
    patched.detach()
    assert not any(weight.steps for weight in weights_of(ours))
    assert torch.equal(runs(ours, "sd15"), runs(stock, "sd15"))


def counts_bytes(model: Any) -> bool:
    """Does this release count what weights take, and not what their values would?"""
    import comfy.model_management

    return int(comfy.model_management.module_size(model.model)) == model.model_size()


def with_stock_loaded(stock: Any, lora: dict[str, torch.Tensor]) -> Any:
    patched = with_stock_lora(stock, lora, 0.8)
    runs(patched, "sd15")
    return patched


def small_inputs() -> Any:
    from .small_models import inputs

    given, named = inputs("sd15")
    return lambda model: model.model.apply_model(*given, **named)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sampling_with_hooks_is_equal(pair_of, dtype):
    import comfy.hooks

    pair = pair_of("sd15")
    ours, stock = pair.ours(dtype=dtype), pair.stock(dtype=dtype)
    weights, under = random_lora(stock, 1), random_lora(stock, 2)
    results = []
    for mode in (comfy.hooks.EnumHookMode.MaxSpeed, comfy.hooks.EnumHookMode.MinVram):
        for model in (ours, stock):
            hooked = with_stock_lora(model, under, 0.5)
            hooked.set_hook_mode(mode)
            results.append(sampled(hooked, hooks_of(weights)))
            assert torch.equal(sampled(model, None), sampled(model, None))
    assert all(torch.equal(results[0], result) for result in results[1:])
    assert not torch.equal(results[0], sampled(with_stock_lora(ours, under, 0.5), None))
    assert torch.equal(sampled(ours, None), sampled(stock, None))
    assert not any(weight.steps for weight in weights_of(ours))


def hooks_of(weights: dict[str, torch.Tensor]) -> Any:
    """Return a LoRA as a hook, with a strength that changes in the run."""
    import comfy.hooks

    hooks = comfy.hooks.create_hook_lora(weights, 0.9, 0.0)
    frames = comfy.hooks.HookKeyframeGroup()
    for percent, strength in ((0.0, 1.0), (0.4, 0.3), (0.8, 1.5)):
        frames.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=percent))
    hooks.set_keyframes_on_hooks(frames)
    return hooks


def sampled(model: Any, hooks: Any) -> torch.Tensor:
    """Sample four steps; the positive text has the hooks."""
    import comfy.sample

    generator = torch.Generator().manual_seed(5)
    noise, latent = torch.randn(1, 4, 8, 8, generator=generator), torch.zeros(1, 4, 8, 8)
    texts = torch.randn(2, 1, 77, 768, generator=generator)
    positive = [[texts[0], {"hooks": hooks} if hooks is not None else {}]]
    result: torch.Tensor = comfy.sample.sample(
        model,
        noise,
        4,
        6.0,
        "euler",
        "normal",
        positive,
        [[texts[1], {}]],
        latent,
        seed=5,
        disable_pbar=True,
    )
    return result
