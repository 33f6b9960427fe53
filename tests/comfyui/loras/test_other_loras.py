"""LoRA files of other kinds, names and sizes: each is what a stock loader makes of it, here and in the daemon."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ..proxy.comparing import assert_differ, assert_same, encode
from ..router_models import write
from .conftest import Stock, assert_weights, patched_weights, random_lora, stock_chain

LINEAR = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"
CONV = "lora_unet_input_blocks_1_0_in_layers_2"
TEXT = "lora_te_text_model_encoder_layers_3_mlp_fc1"
Weights = dict[str, torch.Tensor]
PLACES = {
    LINEAR: "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    CONV: "diffusion_model.input_blocks.1.0.in_layers.2.weight",
    TEXT: "clip_l.transformer.text_model.encoder.layers.3.mlp.fc1.weight",
}


@pytest.fixture(autouse=True)
def fresh_library(lora_folder: Any) -> None:
    from luna_collection.nodes.lora.library import cache

    cache.cache_clear()


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1).half()


def shape_of(stock: Stock, name: str) -> torch.Size:
    module = stock.clip.cond_stage_model if name == TEXT else stock.model.model
    return torch.Size(module.state_dict()[PLACES[name]].shape)


def locon(name: str, shape: torch.Size) -> Weights:
    kernel = (1,) * (len(shape) - 2)
    return {
        f"{name}.lora_up.weight": numbers(shape[0], 4, *kernel),
        f"{name}.lora_down.weight": numbers(4, *shape[1:], seed=2),
        f"{name}.alpha": torch.tensor(2.0),
    }


def without_alpha(name: str, shape: torch.Size) -> Weights:
    return {key: value for key, value in locon(name, shape).items() if "alpha" not in key}


def tucker(name: str, shape: torch.Size) -> Weights:
    if len(shape) < 4:
        return locon(name, shape)
    return {
        f"{name}.lora_up.weight": numbers(shape[0], 4, 1, 1),
        f"{name}.lora_down.weight": numbers(4, shape[1], 1, 1, seed=2),
        f"{name}.lora_mid.weight": numbers(4, 4, *shape[2:], seed=3),
    }


def dora(name: str, shape: torch.Size) -> Weights:
    scale = numbers(shape[0], *(1,) * (len(shape) - 1), seed=4).abs() + 1
    return {**locon(name, shape), f"{name}.dora_scale": scale}


def loha(name: str, shape: torch.Size) -> Weights:
    columns = shape[1:].numel()
    pairs = {"w1_a": (shape[0], 4), "w1_b": (4, columns), "w2_a": (shape[0], 4)}
    sizes = {**pairs, "w2_b": (4, columns)}
    return {
        f"{name}.hada_{end}": numbers(*size, seed=i) for i, (end, size) in enumerate(sizes.items())
    }


def lokr(name: str, shape: torch.Size) -> Weights:
    return {
        f"{name}.lokr_w1": numbers(4, 4),
        f"{name}.lokr_w2": numbers(shape[0] // 4, shape[1] // 4, *shape[2:], seed=2),
    }


def whole(name: str, shape: torch.Size) -> Weights:
    return {f"{name}.diff": numbers(*shape), f"{name}.diff_b": numbers(shape[0], seed=2)}


def replaced(name: str, shape: torch.Size) -> Weights:
    return {f"{name}.set_weight": numbers(*shape)}


def single_precision(name: str, shape: torch.Size) -> Weights:
    return {key: value.float() for key, value in locon(name, shape).items()}


def brain_floats(name: str, shape: torch.Size) -> Weights:
    return {key: value.bfloat16() for key, value in locon(name, shape).items()}


KINDS = (locon, without_alpha, tucker, dora, loha, lokr, whole, single_precision, brain_floats)


def put_on(of: Stock, clip: Any, name: str, *strengths: float, fast: bool = False) -> Any:
    from luna_collection.nodes.lora.transient import with_loras
    from luna_collection.utils.loras.stack import LoraEntry

    return with_loras(of.model, clip, [LoraEntry(name, *strengths)], fast=fast)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_what_a_stock_loader_makes_of_it(
    stock: Callable[[str], Stock], lora_folder, models, kind
):
    from luna_collection.luna_daemon.proxy.opening import open_clip

    of, name = stock("sd15"), f"kinds/{kind.__name__}.safetensors"
    weights: Weights = {}
    for place in (LINEAR, TEXT) if kind in (dora,) else (LINEAR, CONV, TEXT):
        weights |= kind(place, shape_of(of, place))
    write(lora_folder, name, {key: value.contiguous() for key, value in weights.items()})
    model, clip = stock_chain(of.model, of.clip, [(name, -0.7, 1.3)])
    shared = open_clip(models, of.encoders, "STABLE_DIFFUSION")
    local, remote = put_on(of, of.clip, name, -0.7, 1.3), put_on(of, shared, name, -0.7, 1.3)
    assert (local.reports[0].used, local.reports[0].unused) == (len(weights), 0)
    wanted = patched_weights(model)
    assert_weights(patched_weights(local.model), wanted)
    assert any(not torch.equal(wanted[k], w) for k, w in patched_weights(of.model).items())
    expected = encode(clip)
    assert_same(encode(local.clip), expected)
    assert_same(encode(remote.clip), expected)
    assert_differ(expected, encode(of.clip))
    fast = patched_weights(put_on(of, of.clip, name, -0.7, 1.3, fast=True).model)
    for key, weight in wanted.items():
        assert torch.allclose(weight.float(), fast[key].float(), rtol=1e-3, atol=1e-6), key


@pytest.mark.parametrize("side", ["lora_te", "lora_unet"])
def test_a_file_for_one_side_only(stock, lora_folder, models, side):
    from luna_collection.luna_daemon.proxy.opening import open_clip

    of, name = stock("sd15"), f"one side/{side}.safetensors"
    weights = {k: v for k, v in random_lora(of, "sd15", 31).items() if k.startswith(side)}
    write(lora_folder, name, weights)
    model, clip = stock_chain(of.model, of.clip, [(name, 0.9, 0.9)])
    shared = open_clip(models, of.encoders, "STABLE_DIFFUSION")
    for own in (of.clip, shared):
        made = put_on(of, own, name, 0.9, 0.9)
        assert_weights(patched_weights(made.model), patched_weights(model))
        assert_same(encode(made.clip), encode(clip))
        # The other side is not loaded again for each new strength.
        assert (made.model is of.model, made.clip is own) == (
            side == "lora_te",
            side == "lora_unet",
        )


def test_words_that_come_along_make_no_text_lora_one_for_a_model(stock, lora_folder):
    of, name = stock("sd15"), "one side/with words.safetensors"
    weights = {k: v for k, v in random_lora(of, "sd15", 32).items() if k.startswith("lora_te")}
    weights["bundle_emb.fox.string_to_param.*"] = torch.zeros(2, 768)
    write(lora_folder, name, weights)
    made = put_on(of, of.clip, name, 1.0, 1.0)
    assert_same(encode(made.clip), encode(stock_chain(of.model, of.clip, [(name, 1.0, 1.0)])[1]))
    assert (made.reports[0].used, made.reports[0].unused) == (len(weights) - 1, 1)


@pytest.mark.parametrize("kind", [locon, loha, lokr], ids=lambda kind: kind.__name__)
def test_layers_of_another_size_are_another_model(stock, lora_folder, kind):
    from luna_collection.utils.errors import InputError

    of, name = stock("sd15"), f"kinds/wide {kind.__name__}.safetensors"
    rows, columns = shape_of(of, LINEAR)
    write(lora_folder, name, kind(LINEAR, torch.Size((2 * rows, columns))))
    with pytest.raises(InputError, match="1 of its layers have another size") as refused:
        put_on(of, of.clip, name, 1.0, 1.0)
    assert "made for another model" in str(refused.value)


@pytest.mark.parametrize("missing", ["lora_down.weight", "lora_up.weight", "hada_w1_b", "lokr_w1"])
def test_a_file_with_half_a_layer_is_said(stock, lora_folder, missing):
    from luna_collection.utils.errors import LunaError

    of, name = stock("sd15"), f"kinds/half {missing}.safetensors"
    kind = {"lora": locon, "hada": loha, "lokr": lokr}[missing[:4]]
    weights = kind(LINEAR, shape_of(of, LINEAR))
    del weights[f"{LINEAR}.{missing}"]
    write(lora_folder, name, weights)
    with pytest.raises(LunaError, match=f"half {missing}"):
        put_on(of, of.clip, name, 1.0, 1.0)


@pytest.mark.parametrize("strengths", [(0.0, 0.8), (0.8, 0.0), (-0.8, 0.0), (1e-7, -40.0)])
def test_strengths_at_the_edges(stock, loras, models, strengths):
    from luna_collection.luna_daemon.proxy.opening import open_clip

    of = stock("sd15")
    name = loras("sd15", 1)[0]
    model, clip = stock_chain(of.model, of.clip, [(name, *strengths)])
    shared = open_clip(models, of.encoders, "STABLE_DIFFUSION")
    for own in (of.clip, shared):
        made = put_on(of, own, name, *strengths)
        assert_weights(patched_weights(made.model), patched_weights(model))
        assert_same(encode(made.clip), encode(clip))
        # What has no strength costs nothing.
        assert (made.model is of.model, made.clip is own) == (not strengths[0], not strengths[1])


@pytest.mark.parametrize("kind", [whole, replaced, loha, lokr], ids=lambda kind: kind.__name__)
def test_no_strength_on_one_side_is_what_a_stock_loader_makes_of_it(stock, lora_folder, kind):
    of, name = stock("sd15"), f"kinds/none {kind.__name__}.safetensors"
    weights = {**kind(LINEAR, shape_of(of, LINEAR)), **kind(TEXT, shape_of(of, TEXT))}
    write(lora_folder, name, weights)
    for strengths in ((0.0, 1.0), (1.0, 0.0)):
        model, clip = stock_chain(of.model, of.clip, [(name, *strengths)])
        made = put_on(of, of.clip, name, *strengths)
        assert_weights(patched_weights(made.model), patched_weights(model))
        assert_same(encode(made.clip), encode(clip))


@pytest.mark.parametrize(
    "name",
    [
        "ünï çödé/日本 [v1.5] (final).safetensors",
        "a.b.c/x.v2.1.safetensors",
        "50% & 'more' #1.safetensors",
    ],
)
def test_strange_names_in_prompts_and_stacks(stock, lora_folder, name):
    import folder_paths
    from luna_collection.utils.prompts.lora_tags import take_tags

    of = stock("sd15")
    write(lora_folder, name, random_lora(of, "sd15", 40))
    folder_paths.filename_list_cache.pop("loras", None)
    model, _ = stock_chain(of.model, of.clip, [(name, 0.5, 0.5)])
    wanted = patched_weights(model)
    for written in (name, name.removesuffix(".safetensors"), name.replace("/", "\\")):
        (entry,) = take_tags(f"a fox <lora:{written}:0.5>").loras
        made = put_on(of, of.clip, entry.name, entry.model_strength, entry.clip_strength)
        assert_weights(patched_weights(made.model), wanted)
        assert made.reports[0].entry.name == name


def test_a_file_that_is_replaced_is_noticed_in_the_daemon(stock, lora_folder, models):
    from luna_collection.luna_daemon.proxy.opening import open_clip

    of, name = stock("sd15"), "sd15/replaced for text.safetensors"
    clip = open_clip(models, of.encoders, "STABLE_DIFFUSION")
    seen = []
    for seed in (90, 91, 90):
        path = write(lora_folder, name, random_lora(of, "sd15", seed))
        time = (100 + len(seen)) * 10**9
        os.utime(path, ns=(time, time))
        seen.append(encode(put_on(of, clip, name, 0.8, 0.6).clip))
        assert_same(seen[-1], encode(stock_chain(of.model, of.clip, [(name, 0.8, 0.6)])[1]))
    assert_differ(seen[0], seen[1])
    assert_same(seen[0], seen[2])
