"""LoRAs with arithmetic of our own: ComfyUI's weights bit for bit, or off by the last digit when asked for."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.transport.digests import tensor_digest

from .conftest import same
from .engine_client import SentRecipe
from .random_weights import text_lora

TEXT = "a cat (with a hat:1.2)"
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, *FLOAT8]


def numbers(*shape: int, seed: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1).to(dtype)


def parts(shape: tuple[int, ...], seed: int, dtype: torch.dtype, **other: Any) -> tuple[Any, ...]:
    """What ComfyUI's adapter holds for a layer: up, down, alpha, Tucker weights, DoRA scale, shape."""
    rank, kernel = 4, shape[2:]
    up = numbers(shape[0], rank, *(1 for _ in kernel), seed=seed, dtype=dtype)
    down = numbers(rank, shape[1], *kernel, seed=seed + 50, dtype=dtype)
    found = {"alpha": 2.0, "mid": None, "dora": None, "reshape": None, **other}
    return (up, down, *found.values())


def patched(adapters: list[Any], weight: torch.Tensor, **patch: Any) -> torch.Tensor:
    """What ComfyUI makes of a weight with these adapters, as its patcher does."""
    import comfy.float
    import comfy.lora

    told = {"strength_model": 1.0, "offset": None, "function": None, **patch}
    patches = [
        (0.9 - number / 3, adapter, *told.values()) for number, adapter in enumerate(adapters)
    ]
    work = weight.to(torch.float32, copy=True)
    changed = comfy.lora.calculate_weight(patches, work, "layer.weight")
    return comfy.float.stochastic_rounding(changed, weight.dtype, seed=1)


def both(
    kind: str, weights: list[tuple[Any, ...]], weight: torch.Tensor, **patch: Any
) -> list[Any]:
    """The weight as stock adapters make it, and as ours do: "exact" or "fast"."""
    from comfy.weight_adapter.lora import LoRAAdapter
    from luna_collection.luna_daemon.lora_adapters import ExactLora, FastLora

    return [
        patched([made(set(), found) for found in weights], weight, **patch).float()
        for made in (LoRAAdapter, {"exact": ExactLora, "fast": FastLora}[kind])
    ]


@pytest.mark.parametrize("lora_dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(96, 64), (32, 16, 3, 3), (32, 16, 1, 1)], ids=str)
def test_weights_are_those_of_stock_adapters(shape, dtype, lora_dtype):
    weight = numbers(*shape, seed=1).to(dtype)
    loras = [parts(shape, seed, lora_dtype) for seed in range(7)]
    for count in (1, 3, 7):
        stock, ours = both("exact", loras[:count], weight)
        assert torch.equal(stock, ours)
        assert not torch.equal(stock, weight.float())


def halves_swapped(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat(tensor.chunk(2)[::-1])


@pytest.mark.parametrize("kind", ["exact", "fast"])
@pytest.mark.parametrize(
    ("other", "patch", "shape"),
    [
        pytest.param({"alpha": None}, {}, (96, 64), id="no alpha"),
        pytest.param({}, {"strength_model": 0.7}, (96, 64), id="weaker model"),
        pytest.param({}, {"offset": (0, 32, 64)}, (64, 64), id="rows"),
        pytest.param({}, {"offset": (1, 16, 32)}, (96, 32), id="columns"),
        pytest.param({}, {"function": halves_swapped}, (96, 64), id="function"),
        pytest.param({"dora": numbers(96, 1, seed=9)}, {}, (96, 64), id="dora"),
        pytest.param({"reshape": [112, 64]}, {}, (112, 64), id="reshaped"),
        pytest.param({}, {}, (90, 64), id="another shape"),
    ],
)
def test_every_kind_of_patch_is_as_stock(kind, other, patch, shape):
    weight = numbers(96, 64, seed=1)
    stock, ours = both(
        kind, [parts(shape, seed, torch.float16, **other) for seed in (1, 2)], weight, **patch
    )
    if kind == "exact" or "dora" in other or "reshape" in other or "function" in patch:
        assert torch.equal(stock, ours)
    else:
        assert torch.allclose(stock, ours, atol=1e-3)
    assert torch.equal(stock, weight.float()) == (shape == (90, 64)), (
        "what does not fit is left out"
    )


def test_tucker_weights_are_stocks_own():
    weight = numbers(32, 16, 3, 3, seed=1)
    up, down = numbers(32, 4, 1, 1, seed=2), numbers(4, 16, 1, 1, seed=3)
    lora = (up, down, 2.0, numbers(4, 4, 3, 3, seed=4), None, None)
    stock, ours = both("fast", [lora], weight)
    assert torch.equal(stock, ours)
    assert not torch.equal(stock, weight.float())


def test_a_fast_weight_is_off_by_the_last_digit_at_most():
    weight = numbers(96, 64, seed=1)
    stock, ours = both("fast", [parts((96, 64), seed, torch.float16) for seed in range(7)], weight)
    exponent = torch.maximum(stock.abs(), ours.abs()).log2().floor().clamp(min=-14)
    assert ((stock - ours).abs() <= 2.0 ** (exponent - 10)).all(), "10 bits follow the first one"
    assert not torch.equal(ours, weight.float())


# -- the engine ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stock(files):
    import comfy.sd

    return comfy.sd.load_clip([str(files("clip_l"))])


@pytest.fixture(scope="module")
def stock_xl(files):
    import comfy.sd

    return comfy.sd.load_clip([str(files("clip_l")), str(files("clip_g"))])


@pytest.fixture
def model(files, load):
    return load("clip", files("clip_l"))


def chained(clip: Any, strengths: Mapping[int, float], loras: Any = text_lora) -> Any:
    """What a chain of LoraLoaders makes: seed of a LoRA → its strength."""
    import comfy.sd

    for seed, strength in strengths.items():
        clip = comfy.sd.load_lora_for_models(None, clip, loras(seed), 0, strength)[1]
    return clip


def with_adapters(clip: Any, *, fast: bool) -> Any:
    """The same CLIP with adapters of our own in place of ComfyUI's."""
    from luna_collection.nodes.lora.adapters import adapters_for

    copy = clip.clone()
    copy.patcher.patches = {
        key: [
            (strength, adapters_for({key: value}, fast=fast)[key], *rest)
            for strength, value, *rest in of
        ]
        for key, of in clip.patcher.patches.items()
    }
    copy.patcher.patches_uuid = object()
    return copy


def encoded(clip: Any) -> Any:
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(TEXT), return_pooled=True)


def recipe_of(clip: Any, *, fast: bool = False) -> SentRecipe:
    return SentRecipe(with_adapters(clip, fast=fast).patcher.patches)


def random_strengths(dice: random.Random, count: int) -> dict[int, float]:
    return {seed: dice.uniform(-1, 1.5) for seed in range(1, count + 1)}


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_chain_of_loras_is_a_chain_of_stock_loaders(client, model, stock, count):
    from luna_collection.luna_daemon.lora_adapters import WORKSPACE

    dice = random.Random(count)
    for _ in range(2):
        clip = chained(stock, random_strengths(dice, count))
        got = client.call(
            model, "encode_token_weights", stock.tokenize(TEXT), recipe=recipe_of(clip)
        )
        assert same(got, encoded(clip))
    assert WORKSPACE.nbytes == 0, "the memory for products is free again"


def test_both_encoders_of_sdxl_get_their_loras(client, load, files, stock_xl):
    def loras(seed: int) -> dict[str, torch.Tensor]:
        small = text_lora(seed, prefix="lora_te1")
        return small | text_lora(seed + 50, prefix="lora_te2", width=1280, layers=32)

    model = load("clip", files("clip_l"), files("clip_g"))
    clip = chained(stock_xl, {1: 0.7, 2: -0.4, 3: 1.1}, loras)
    assert len(clip.patcher.patches) == 6 * (12 + 32)
    got = client.call(
        model, "encode_token_weights", stock_xl.tokenize(TEXT), recipe=recipe_of(clip)
    )
    assert same(got, encoded(clip))


def test_twenty_strengths_and_the_base_is_as_it_was(client, model, stock):
    dice, tokens = random.Random(0), stock.tokenize(TEXT)
    plain = client.call(model, "encode_token_weights", tokens)
    before = {
        n: (w.data_ptr(), tensor_digest(w)) for n, w in model.model.base.model.named_parameters()
    }
    for number in range(20):
        clip = chained(stock, random_strengths(dice, 7))
        got = client.call(model, "encode_token_weights", tokens, recipe=recipe_of(clip))
        if number % 5 == 0:
            assert same(got, encoded(clip))
    client.engine._cached.cache.forget(model.spec.key)
    assert same(client.call(model, "encode_token_weights", tokens), plain)
    after = {
        n: (w.data_ptr(), tensor_digest(w)) for n, w in model.model.base.model.named_parameters()
    }
    assert before == after


def test_two_workflows_take_turns_with_sets_of_their_own(client, model, stock):
    tokens, dice = stock.tokenize(TEXT), random.Random(4)
    wrong = 0
    for number in range(6):
        seeds = ({1: 0.0, 2: 0.0, 3: 0.0}, {3: 0.0, 4: 0.0})[number % 2]
        clip = chained(stock, {seed: dice.uniform(-1, 1) for seed in seeds})
        got = client.call(model, "encode_token_weights", tokens, recipe=recipe_of(clip))
        wrong += not same(got, encoded(clip))
    assert wrong == 0


def test_layers_without_a_lora_are_not_touched(client, model, stock):
    def few(seed: int) -> dict[str, torch.Tensor]:
        return {key: value for key, value in text_lora(seed).items() if f"layers_{seed}_" in key}

    def places() -> dict[str, int]:
        return {
            name: weight.data_ptr() for name, weight in model.model.base.model.named_parameters()
        }

    tokens, before = stock.tokenize(TEXT), places()
    for seed in (1, 2):
        clip = chained(stock, {seed: 0.5}, few)
        client.call(model, "encode_token_weights", tokens, recipe=recipe_of(clip))
        moved = {name for name, place in places().items() if place != before[name]}
        assert moved == set(clip.patcher.patches)


def test_new_strengths_need_no_file_and_no_upload(client, model, stock, tmp_path):
    opened: list[str] = []
    listening = [True]

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        # /proc is no disk: ComfyUI asks there how much memory is free.
        if listening[0] and event == "open" and not str(arguments[0]).startswith("/proc/"):
            opened.append(str(arguments[0]))

    tokens, dice = stock.tokenize(TEXT), random.Random(5)
    first = recipe_of(chained(stock, random_strengths(dice, 3)))
    client.call(model, "encode_token_weights", tokens, recipe=first)
    assert client.needed[-1].blobs, "the first time everything is sent"
    later = [recipe_of(chained(stock, random_strengths(dice, 3))) for _ in range(5)]
    sys.addaudithook(listen)
    (tmp_path / "heard").write_text("", "utf-8")
    assert opened == [str(tmp_path / "heard")]
    opened.clear()
    for recipe in later:
        client.call(model, "encode_token_weights", tokens, recipe=recipe)
        assert [needed.blobs for needed in client.needed] == [()]
    listening[0] = False
    assert opened == []


def test_fast_is_a_patch_set_of_its_own(client, model, stock):
    clip, tokens = chained(stock, {1: 0.7, 2: -0.4}), stock.tokenize(TEXT)
    exact, fast = recipe_of(clip), recipe_of(clip, fast=True)
    assert exact.digest != fast.digest
    assert exact.tensors.keys() == fast.tensors.keys()
    expected = encoded(clip)
    got = client.call(model, "encode_token_weights", tokens, recipe=fast)
    assert not client.cache_hit
    assert not same(got, expected), "fast weights are in use"
    assert torch.allclose(got[0], expected[0], atol=0.05)
    assert same(client.call(model, "encode_token_weights", tokens, recipe=exact), expected)
    assert not client.cache_hit
    assert same(client.call(model, "encode_token_weights", tokens, recipe=fast), got)
    assert client.cache_hit


def steps_between(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """How many numbers of half precision lie between two, at the larger one's size."""
    exponent = torch.maximum(one.abs(), other.abs()).float().log2().floor().clamp(min=-14)
    return (one.float() - other.float()).abs() / 2.0 ** (exponent - 10)


def test_fast_loras_are_beside_their_layers(client, model, stock, files):
    from safetensors.torch import load_file

    tokens, clip = stock.tokenize(TEXT), chained(stock, {1: 0.7, 2: -0.4, 3: 1.2})
    encoded(clip)
    name = "text_model.encoder.layers.3.mlp.fc1.weight"
    key = f"clip_l.transformer.{name}"
    wanted = clip.patcher.model.state_dict()[key].clone()
    plain = load_file(files("clip_l"))[name]
    module = model.model.base.model
    places = {n: w.data_ptr() for n, w in module.named_parameters()}
    layer = module.get_submodule(key.removesuffix(".weight"))

    def in_effect() -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = layer(torch.eye(layer.in_features)) - layer.bias.float()
        return found.t()

    recipe = recipe_of(clip, fast=True)
    client.call(model, "encode_token_weights", tokens, recipe=recipe)
    assert {n: w.data_ptr() for n, w in module.named_parameters()} == places
    # Their weight is not rounded, stock's is: half a step. The bias that comes and goes rounds the rest.
    assert steps_between(in_effect(), wanted).max() <= 1
    assert steps_between(in_effect(), plain).max() > 1
    layer.weight_function = [lambda weight: weight]
    assert steps_between(in_effect(), plain).max() <= 1, "ComfyUI's way goes before"
    layer.weight_function = []
    (fetched,) = client.weights(model, [key], recipe)
    assert steps_between(fetched, wanted).max() <= 1
    assert not torch.equal(fetched, plain)
    client.call(model, "encode_token_weights", tokens)
    assert not any(part._forward_hooks for part in module.modules())
    assert torch.equal(layer.weight, plain)


def test_other_strengths_exchange_patches_and_load_nothing(client, model, stock, monkeypatch):
    tokens = stock.tokenize(TEXT)
    client.call(model, "encode_token_weights", tokens, recipe=recipe_of(chained(stock, {1: 0.7})))
    module = model.model.base.model
    monkeypatch.setattr(type(model.model.base), "load", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr(module, "to", lambda *_, **__: pytest.fail("moved"))
    for strengths in ({1: -0.2}, {2: 1.5, 3: 0.3}, {3: 1e-3}):
        clip = chained(stock, strengths)
        wanted = encoded(clip)
        for fast in (True, False):
            recipe = recipe_of(clip, fast=fast)
            found = client.call(model, "encode_token_weights", tokens, recipe=recipe)
        assert same(found, wanted)
    plain = client.call(model, "encode_token_weights", tokens)
    assert same(plain, encoded(stock))
    assert not model.model.base.backup


def test_patches_that_fail_leave_the_model_as_it_was(client, model, stock, monkeypatch):
    from luna_collection.luna_daemon.engines.comfy import host_patcher

    tokens = stock.tokenize(TEXT)
    first, second = (recipe_of(chained(stock, {number: 0.7})) for number in (1, 2))
    client.call(model, "encode_token_weights", tokens, recipe=first)
    merge, calls = host_patcher.merged_at_once, []

    def fail_later(*told: Any) -> Any:
        calls.append(told)
        if len(calls) > 1:
            raise MemoryError
        return merge(*told)

    with monkeypatch.context() as patch:
        patch.setattr(host_patcher, "merged_at_once", fail_later)
        with pytest.raises(MemoryError):
            client.call(model, "encode_token_weights", tokens, recipe=second)
    assert same(client.call(model, "encode_token_weights", tokens), encoded(stock))
    found = client.call(model, "encode_token_weights", tokens, recipe=second)
    assert same(found, encoded(chained(stock, {2: 0.7})))


def test_a_clone_in_this_process_is_patched_as_stock_patches_it(stock):
    from luna_collection.luna_daemon.lora_adapters import WORKSPACE
    from luna_collection.nodes.lora.adapters import free_after_loading

    clip = chained(stock, {1: 0.7, 2: -0.4, 3: 1.2})
    expected, plain = encoded(clip), encoded(stock)
    ours = with_adapters(clip, fast=False)
    free_after_loading(ours.patcher)
    again = ours.clone()
    free_after_loading(again.patcher)
    assert same(encoded(again), expected)
    assert WORKSPACE.nbytes == 0
    assert not same(encoded(with_adapters(clip, fast=True)), expected)
    assert same(encoded(stock), plain)


def test_what_is_no_plain_lora_stays_what_it_is():
    import comfy.weight_adapter as adapters
    from luna_collection.luna_daemon.lora_adapters import ExactLora, FastLora
    from luna_collection.nodes.lora.adapters import adapters_for

    weights = parts((96, 64), 1, torch.float16)
    kinds = {
        "a": adapters.LoRAAdapter({"up"}, weights),
        ("b", (0, 0, 32)): adapters.LoRAAdapter(set(), weights),
        "c": adapters.LoHaAdapter(set(), weights),
        "d": ("diff", (weights[0],)),
    }
    exact = adapters_for(kinds)
    fast = adapters_for(exact, fast=True)
    assert [type(patch) for patch in exact.values()][:2] == [ExactLora, ExactLora]
    assert [type(patch) for patch in fast.values()][:2] == [FastLora, FastLora]
    assert exact["a"].loaded_keys == {"up"}
    assert fast["a"].weights is weights
    assert exact["c"] is fast["c"] is kinds["c"]
    assert exact["d"] is kinds["d"]
