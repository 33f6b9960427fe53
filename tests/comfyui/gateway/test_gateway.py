"""The gateway: what a chain of ComfyUI's own nodes gives, from one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ..engine import random_weights
from ..loras.conftest import assert_weights, patched_weights, random_lora, stock_chain
from ..proxy.comparing import assert_differ, assert_same, encode
from ..router_models import write
from .conftest import small_transformer

LAYER = "input_blocks.1.1.transformer_blocks.0.attn2.to_k"


@pytest.fixture
def configure(stock: Callable[[str], Any]) -> Callable[..., Any]:
    """Return the gateway with the inputs that a test does not care for."""

    def run(family: str = "sd15", **inputs: Any) -> Any:
        from luna_collection.nodes.workflow.gateway import ClipSkipTiming, Order, configure

        plain = {
            "model": stock(family).model,
            "clip": stock(family).clip,
            "vae": "a VAE",
            "width": 96,
            "height": 64,
            "batch_size": 2,
            "seed": 3,
            "steps": 4,
            "cfg": 5.0,
            "denoise": 1.0,
            "clip_skip": -2,
            "clip_skip_timing": ClipSkipTiming.AFTER_LORA,
            "sampler": "euler",
            "scheduler": "normal",
        }
        return configure(Order(**{**plain, **inputs}), lambda _: None)

    return run


def skipped(clip: Any, layer: int) -> Any:
    import nodes

    return nodes.CLIPSetLastLayer().set_last_layer(clip, layer)[0]


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_it_is_the_chain_of_stock_nodes(configure, stock, loras, family):
    names = loras(family, 3)
    made = configure(
        family,
        positive_prompt=f"a fox, <lora:{names[0]}:0.7:0.3>, red",
        # With its folder: the other family has a file of the same name.
        negative_prompt=f"<lora:{names[1].removesuffix('.safetensors')}:-0.2> blurry",
        lora_stack=[(names[2], 0.5, 0.4), (names[0], 9.0, 9.0)],
    )
    of = stock(family)
    chain = [(names[2], 0.5, 0.4), (names[0], 0.7, 0.3), (names[1], -0.2, -0.2)]
    model, clip = stock_chain(of.model, of.clip, chain)
    clip = skipped(clip, -2)
    assert_same(made.pipe.positive, encode(clip, "a fox, red"))
    assert_same(made.pipe.negative, encode(clip, "blurry"))
    assert_weights(patched_weights(made.pipe.model), patched_weights(model))
    assert [entry.name for entry in made.loras] == [names[2], names[0], names[1]]
    assert (made.positive, made.negative) == ("a fox, red", "blurry")
    assert made.metadata["positive"].startswith("a fox, <lora:")
    assert made.metadata["loras"] == f"{names[2]}:0.5, {names[0]}:0.7, {names[1]}:-0.2"
    assert made.report.count(" model, ") == 3


def test_clip_skip_is_the_same_before_and_after_the_loras(configure, stock, loras):
    from luna_collection.nodes.workflow.gateway import ClipSkipTiming

    name = loras("sd15", 1)[0]
    results = [
        configure(positive_prompt=f"a fox <lora:{name}:1>", clip_skip=-3, clip_skip_timing=timing)
        for timing in ClipSkipTiming
    ]
    assert_same(results[0].pipe.positive, results[1].pipe.positive)
    assert_differ(results[0].pipe.positive, configure(positive_prompt="a fox").pipe.positive)


def test_encoders_that_are_not_clip_keep_their_layers(stock, tmp_path):
    import comfy.sd
    from luna_collection.nodes.workflow.gateway import skip_layers

    t5 = random_weights.save(random_weights.narrow_t5(), tmp_path / "t5xxl.safetensors")
    flux = comfy.sd.load_clip(
        [str(stock("sd15").encoders[0]), str(t5)],
        clip_type=comfy.sd.CLIPType.FLUX,
        model_options={"t5xxl_model_config": random_weights.NARROW_T5},
    )
    kept, note = skip_layers(flux, -2)
    assert kept is flux
    assert "no meaning" in note


def test_a_missing_lora_is_an_error_or_left_out_and_said(configure, loras):
    from luna_collection.nodes.workflow.gateway import MissingLoras
    from luna_collection.utils.errors import InputError

    name = loras("sd15", 1)[0]
    prompt = f"a fox <lora:nowhere:1> <lora:{name}:1>"
    with pytest.raises(InputError, match="no LoRA 'nowhere'"):
        configure(positive_prompt=prompt)
    made = configure(positive_prompt=prompt, missing_loras=MissingLoras.SKIP)
    assert [entry.name for entry in made.loras] == [name]
    assert "Left out: There is no LoRA 'nowhere'" in made.report


@pytest.mark.parametrize(
    ("name", "what"), [("model", "diffusion model"), ("clip", "text encoders")]
)
def test_a_file_without_one_of_them_is_said(configure, name, what):
    from luna_collection.utils.errors import InputError

    with pytest.raises(InputError, match=f"input '{name}' is empty: .* has no {what}"):
        configure(**{name: None})


def test_texts_that_a_node_before_did_not_give_are_empty(configure):
    made = configure(positive_prompt=None, negative_prompt=None, model_name=None, lora_stack="None")
    assert_same(made.pipe.positive, configure().pipe.positive)
    assert (made.positive, made.metadata["negative"], made.metadata["model"]) == ("", "", "")


def test_fifty_tags_in_a_long_prompt(configure, stock, lora_folder):
    strengths = [round(0.001 * number, 3) for number in range(1, 51)]
    shape = stock("sd15").model.model.state_dict()[f"diffusion_model.{LAYER}.weight"].shape
    for number in range(50):
        halves = {"up": (shape[0], 2), "down": (2, shape[1])}
        weights = {
            f"lora_unet_{LAYER.replace('.', '_')}.lora_{end}.weight": torch.full(
                size, 0.01 * number
            )
            for end, size in halves.items()
        }
        write(lora_folder, f"many/lora {number:02}.safetensors", weights)
    words = ", ".join(f"word {number}" for number in range(1000))
    tags = "".join(f" <lora:lora {n:02}:{strength}>" for n, strength in enumerate(strengths))
    made = configure(positive_prompt=words + tags)
    assert made.positive == words
    chain = [(f"many/lora {n:02}.safetensors", s, s) for n, s in enumerate(strengths)]
    wanted, _ = stock_chain(stock("sd15").model, None, chain)
    assert_weights(patched_weights(made.pipe.model), patched_weights(wanted))


def test_cancel_stops_the_reading_of_loras(configure, lora_folder, stock):
    import comfy.model_management
    from luna_collection.nodes.lora.library import cache

    name = "sd15/not read yet.safetensors"
    write(lora_folder, name, random_lora(stock("sd15"), "sd15", 60))
    reads = cache().reads
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        configure(positive_prompt=f"a fox <lora:{name}:1>")
    assert cache().reads == reads
    configure(positive_prompt=f"a fox <lora:{name}:1>")
    assert cache().reads == reads + 1


def test_incoming_stacks_stay_as_they_are(configure, loras):
    stack = [(loras("sd15", 1)[0], 0.5, 0.5)]
    before = list(stack)
    configure(lora_stack=stack, positive_prompt="a <lora:sd15/style 0:1>")
    assert stack == before


def test_a_vision_embed_is_added_to_the_positive_prompt_once(configure):
    plain = configure(positive_prompt="a fox")
    embed = {"type": "clip_vision", "embedding": torch.ones(1, 768)}
    made = configure(positive_prompt="a fox", vision_embed=embed, vision_strength=0.5)
    assert torch.equal(made.pipe.positive[0][0], plain.pipe.positive[0][0] + 0.5)
    assert_same(made.pipe.negative, plain.pipe.negative)
    assert made.metadata["vision_conditioning"] is True


def test_the_latent_is_what_stock_makes_for_this_model(configure):
    import nodes

    latent = configure().pipe.latent
    wanted = nodes.EmptyLatentImage().generate(96, 64, 2)[0]
    assert torch.equal(latent["samples"], wanted["samples"])
    assert latent.keys() == wanted.keys()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("SD15", (2, 4, 8, 12)),
        ("Flux", (2, 16, 8, 12)),
        ("Flux2", (2, 128, 4, 6)),
        ("HunyuanImage21", (2, 64, 2, 3)),
        ("ChromaRadiance", (2, 3, 64, 96)),
        ("Wan21", (2, 16, 1, 8, 12)),
        ("Wan22", (2, 48, 1, 4, 6)),
        ("LTXV", (2, 128, 1, 2, 3)),
        ("Mochi", (2, 12, 1, 8, 12)),
    ],
)
def test_latents_of_every_kind_have_their_shape(stock, name, shape):
    import comfy.latent_formats
    import comfy.sample
    from luna_collection.nodes.workflow.empty_latent import empty_latent

    kind = getattr(comfy.latent_formats, name, None)
    if kind is None:
        pytest.skip(f"this ComfyUI has no {name}")
    model = stock("sd15").model.clone()
    model.add_object_patch("latent_format", kind())
    latent = empty_latent(model, 96, 64, 2)
    assert latent["samples"].shape == shape
    ratio = latent["downscale_ratio_spacial"]
    fixed = comfy.sample.fix_empty_latent_channels(model, latent["samples"], ratio)
    assert fixed.shape == shape


def test_a_model_for_sound_is_refused(stock):
    import comfy.latent_formats
    from luna_collection.nodes.workflow.empty_latent import empty_latent
    from luna_collection.utils.errors import InputError

    model = stock("sd15").model.clone()
    model.add_object_patch("latent_format", comfy.latent_formats.StableAudio1())
    with pytest.raises(InputError, match="makes no pictures"):
        empty_latent(model, 64, 64, 1)


def test_the_cache_is_on_a_clone_and_reset_returns_the_base(configure, stock, loras):
    from luna_collection.nodes.lora.reset import reset
    from luna_collection.utils.sampling.first_block_cache import CacheSettings

    name = loras("sd15", 1)[0]
    made = configure(positive_prompt=f"<lora:{name}:1>", cache=CacheSettings(0.2))
    assert made.pipe.model.wrappers
    assert made.metadata["fb_cache_enabled"] is True
    base, _ = reset(made.pipe.model.clone(), now=True)
    assert base is stock("sd15").model
    assert not any(base.wrappers.values())


FLUX_LAYERS = {
    "lora_unet_double_blocks_1_img_attn_qkv": "double_blocks.1.img_attn.qkv",
    "lora_unet_single_blocks_3_linear1": "single_blocks.3.linear1",
    # As diffusers calls them: each is a part of a layer.
    "transformer.transformer_blocks.0.attn.to_k": "double_blocks.0.img_attn.qkv",
    "transformer.single_transformer_blocks.2.attn.to_v": "single_blocks.2.linear1",
}


@pytest.mark.parametrize("blocks", ["", "D01:0.5,S03:0,BASE:0", "OUTALL"])
@pytest.mark.parametrize("fast", [False, True])
def test_loras_of_flux(transformers, lora_folder, blocks, fast):
    from luna_collection.nodes.lora.transient import with_loras
    from luna_collection.utils.loras.block_weights import FLUX, block_of, read_block_weights
    from luna_collection.utils.loras.stack import LoraEntry

    model = transformers("flux")
    sizes = {name: module.weight.shape for name, module in model.model.diffusion_model.named_modules()
             if isinstance(module, torch.nn.Linear)}  # fmt: skip
    weights = {}
    for number, (name, layer) in enumerate(FLUX_LAYERS.items()):
        rows = sizes[layer][0] if number < 2 else 64
        ends = ("lora_up", "lora_down") if number < 2 else ("lora_B", "lora_A")
        for end, size in zip(ends, ((rows, 4), (4, sizes[layer][1])), strict=True):
            weights[f"{name}.{end}.weight"] = torch.randn(
                size, generator=torch.Generator().manual_seed(number)
            )
    name = "flux/parts.safetensors"
    write(lora_folder, name, weights)
    made = with_loras(model, None, [LoraEntry(name, 0.6, 0.6, blocks)], fast=fast)
    assert (made.reports[0].used, made.reports[0].unused) == (8, 0)
    found, plain = patched_weights(made.model), patched_weights(model)
    whole, _ = stock_chain(model, None, [(name, 0.6, 0.6)])
    scales = read_block_weights(blocks, FLUX) if blocks else {}
    for key, wanted in patched_weights(whole).items():
        factor = scales.get(block_of(key), 1.0)
        expected = wanted if factor == 1 else plain[key] + factor * (wanted - plain[key])
        exact = not fast and factor == 1
        assert torch.allclose(
            found[key], expected, rtol=0 if exact else 1e-3, atol=0 if exact else 1e-4
        )
    changed = {key for key in plain if not torch.equal(found[key], plain[key])}
    assert changed == {
        f"diffusion_model.{layer}.weight" for layer in FLUX_LAYERS.values()
        if scales.get(block_of(f"diffusion_model.{layer}.weight"), 1.0)
    }  # fmt: skip


def test_a_weight_that_another_lora_made_larger_keeps_its_size_for_others(lora_folder):
    from luna_collection.nodes.lora.transient import with_loras
    from luna_collection.utils.loras.stack import LoraEntry

    model = small_transformer("flux")
    rows, columns = model.model.state_dict()["diffusion_model.img_in.weight"].shape
    down, up = torch.ones(2, 2 * columns), torch.ones(rows, 2)
    # As Black Forest Labs' own LoRAs for edges and depth: more channels come in.
    control = {
        "img_in.lora_A.weight": down,
        "img_in.lora_B.weight": up,
        "single_blocks.0.norm.key_norm.scale": torch.ones(32),
    }
    write(lora_folder, "flux/control.safetensors", control)
    half = {
        "lora_unet_img_in.lora_up.weight": up,
        "lora_unet_img_in.lora_down.weight": down[:, ::2],
    }
    write(lora_folder, "flux/img_in.safetensors", half)
    wide = with_loras(model, None, [LoraEntry("flux/control", 1.0, 1.0)]).model
    stock_wide, _ = stock_chain(model, None, [("flux/control.safetensors", 1.0, 1.0)])
    assert_weights(patched_weights(wide), patched_weights(stock_wide))
    model = small_transformer("flux")
    stock_wide, _ = stock_chain(model, None, [("flux/control.safetensors", 1.0, 1.0)])
    patched_weights(stock_wide)
    both = [("flux/img_in.safetensors", 0.5, 0.5)]
    made = with_loras(model, None, [LoraEntry(*entry) for entry in both])
    assert (made.reports[0].used, made.reports[0].unused) == (2, 0)
    wanted, _ = stock_chain(model, None, both)
    assert_weights(patched_weights(made.model), patched_weights(wanted))


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_lora_twice_works_once_and_the_last_counts(configure, stock, loras, family):
    name = loras(family, 1)[0]
    made = configure(
        family,
        positive_prompt=f"a fox <lora:{name}:0.1> <LORA:{name}:0.9:-0.3>",
        lora_stack=[[name, 0.5, 0.5], (name.replace("/", "\\"), "0.7", None), ("None", 1, 1)],
    )
    of = stock(family)
    model, clip = stock_chain(of.model, of.clip, [(name, 0.9, -0.3)])
    assert_weights(patched_weights(made.pipe.model), patched_weights(model))
    assert_same(made.pipe.positive, encode(skipped(clip, -2), "a fox"))
    assert [entry.name for entry in made.loras] == [name]
