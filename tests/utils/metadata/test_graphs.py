"""Prompts found in ComfyUI's graphs by following the links."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.utils.loras.stack import LoraEntry
from luna_collection.utils.metadata.extraction import prompt_of_texts
from luna_collection.utils.metadata.found_prompt import FoundPrompt
from luna_collection.utils.metadata.picture_texts import PictureTexts


def graph(**changed: Any) -> dict[str, Any]:
    """A plain run; the negative prompt is the longer one, to mislead those that go by length."""
    nodes: dict[str, Any] = {
        "load": ("CheckpointLoaderSimple", {"ckpt_name": "m.safetensors"}),
        "pos": ("CLIPTextEncode", {"text": "cat", "clip": ["load", 1]}),
        "neg": ("CLIPTextEncode", {"text": "a much longer negative prompt", "clip": ["load", 1]}),
        "empty": ("EmptyLatentImage", {"width": 832, "height": 1216, "batch_size": 1}),
        "k": (
            "KSampler",
            {
                "seed": 7, "steps": 20, "cfg": 5.5, "sampler_name": "euler", "scheduler": "simple",
                "denoise": 1.0, "model": ["load", 0], "positive": ["pos", 0], "negative": ["neg", 0],
                "latent_image": ["empty", 0],
            },
        ),
        "vae": ("VAEDecode", {"samples": ["k", 0], "vae": ["load", 2]}),
        "save": ("SaveImage", {"images": ["vae", 0], "filename_prefix": "x"}),
    }  # fmt: skip
    nodes |= changed
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def sampler(**changed: Any) -> tuple[str, dict[str, Any]]:
    return "KSampler", graph()["k"]["inputs"] | changed


def found_in(prompt: Any) -> FoundPrompt:
    found = prompt_of_texts(PictureTexts(1, 1, {"prompt": json.dumps(prompt)}))
    assert found is not None
    return found


def texts_in(prompt: Any) -> tuple[str, str]:
    found = found_in(prompt)
    return found.positive, found.negative


def test_a_plain_run():
    found = found_in(graph())
    assert (found.positive, found.negative) == ("cat", "a much longer negative prompt")
    assert found.settings == {
        "seed": 7, "steps": 20, "cfg": 5.5, "sampler_name": "euler", "scheduler": "simple",
        "denoise": 1.0, "model": "m.safetensors",
    }  # fmt: skip
    assert (found.width, found.height) == (832, 1216)


@pytest.mark.parametrize(
    ("changed", "texts"),
    [
        # A text from another node, joined from two, and through nodes that pass it on.
        (
            {
                "pos": ("CLIPTextEncode", {"text": ["join", 0]}),
                "join": ("StringConcatenate", {"string_a": "red", "string_b": ["s", 0], "delimiter": "-"}),
                "s": ("PrimitiveStringMultiline", {"value": "cat"}),
            },
            ("red-cat", "a much longer negative prompt"),
        ),
        ({"k": sampler(negative=["zero", 0]), "zero": ("ConditioningZeroOut", {"conditioning": ["pos", 0]})}, ("cat", "")),
        (
            {
                "k": sampler(positive=["net", 0], negative=["net", 1]),
                "net": ("ControlNetApplyAdvanced", {"positive": ["pos", 0], "negative": ["neg", 0], "image": ["pic", 0], "strength": 1}),
                "pic": ("LoadImage", {"image": "no prompt.png", "text": "no"}),
            },
            ("cat", "a much longer negative prompt"),
        ),
        (
            {
                "k": sampler(positive=["both", 0]),
                "both": ("ConditioningCombine", {"conditioning_1": ["pos", 0], "conditioning_2": ["dog", 0]}),
                "dog": ("CLIPTextEncodeSDXL", {"text_g": "dog", "text_l": "dog", "width": 1}),
            },
            ("cat, dog", "a much longer negative prompt"),
        ),
        (
            {"pos": ("ImpactWildcardEncode", {"wildcard_text": "{cat|dog}", "populated_text": "dog"})},
            ("dog", "a much longer negative prompt"),
        ),
        (
            {
                "k": sampler(positive=["sw", 0]),
                "sw": ("ComfySwitchNode", {"switch": False, "on_true": ["pos", 0], "on_false": ["neg", 0]}),
            },
            ("a much longer negative prompt",) * 2,
        ),
        (
            {
                "k": ("SamplerCustomAdvanced", {"noise": ["n", 0], "guider": ["g", 0], "sigmas": ["x", 0]}),
                "n": ("RandomNoise", {"noise_seed": 3}),
                "g": ("BasicGuider", {"model": ["load", 0], "conditioning": ["f", 0]}),
                "f": ("FluxGuidance", {"guidance": 3.5, "conditioning": ["pos", 0]}),
            },
            ("cat", ""),
        ),
        (
            {
                "k": ("LunaKSamplerHeadless", {"luna_pipe": ["gate", 0]}),
                "gate": ("LunaConfigGateway", {"positive_prompt": "owl", "negative_prompt": ["s", 0], "width": 64, "height": 96, "seed": 1}),
                "s": ("PrimitiveString", {"value": "day"}),
            },
            ("owl", "day"),
        ),
    ],
)  # fmt: skip
def test_the_links_are_followed(changed, texts):
    assert texts_in(graph(**changed)) == texts


def test_what_nodes_noted_of_their_outputs_counts():
    prompt = graph(
        pos=("CLIPTextEncode", {"text": ["w", 0], "clip": ["load", 1]}),
        w=("LunaYAMLWildcard", {"prompt_template": "a {cat|dog}", "seed": ["l", 3]}),
        l=("LunaBatchPromptLoader", {"index": 0}),
        empty=("EmptyLatentImage", {"width": ["l", 7], "height": ["l", 8], "batch_size": 1}),
        k=sampler(seed=["l", 3]),
    )
    prompt["w"]["_meta"] = {"title": "x", "luna_outputs": {"0": "a dog"}}
    prompt["l"]["_meta"] = {
        "luna_outputs": {"3": 2**64 - 1, "7": 640, "8": 480, "9": [], "2": True}
    }
    found = found_in(prompt)
    assert found.positive == "a dog"
    assert found.settings["seed"] == 2**64 - 1
    assert (found.width, found.height) == (640, 480)


@pytest.mark.parametrize("meta", [None, 5, {"luna_outputs": 3}, {"luna_outputs": {"0": ["k", 0]}}])
def test_notes_of_another_form_do_not_count(meta):
    prompt = graph(
        pos=("CLIPTextEncode", {"text": ["w", 0], "clip": ["load", 1]}),
        w=("PrimitiveStringMultiline", {"value": "cat"}),
    )
    prompt["w"]["_meta"] = meta
    assert found_in(prompt).positive == "cat"


def test_of_two_samplers_the_first_and_of_two_branches_the_saved_one():
    second = sampler(latent_image=["up", 0], positive=["neg", 0], seed=99)
    changed = {
        "k2": second,
        "up": ("LatentUpscale", {"samples": ["k", 0], "width": 1, "height": 1}),
        "vae": ("VAEDecode", {"samples": ["k2", 0]}),
        "other": sampler(positive=["neg", 0], seed=5),
        "look": ("PreviewImage", {"images": ["other", 0]}),
    }
    found = found_in({"0": {"class_type": "x", "inputs": {}}, **graph(**changed)})
    assert (found.positive, found.settings["seed"]) == ("cat", 7)


def test_loras_in_the_order_in_which_they_work():
    changed = {
        "k": sampler(model=["b", 0], seed=["s", 0]),
        "s": ("LunaSeed", {"value": 12}),
        "a": ("LoraLoader", {"lora_name": "a.safetensors", "strength_model": 0.5, "strength_clip": 0.25, "model": ["load", 0]}),
        "b": ("Power Lora Loader (rgthree)", {
            "lora_1": {"on": True, "lora": "b.safetensors", "strength": 0.8},
            "lora_2": {"on": False, "lora": "off.safetensors", "strength": 1},
            "model": ["c", 0],
        }),
        "c": ("Apply", {"lora_stack": ["stack", 0], "model": ["a", 0]}),
        "stack": ("LunaLoRAStacker", {
            "lora_1": "None", "slot_2": "filled", "slot_2.lora_2": "d.safetensors",
            "slot_2.model_strength_2": 0.3, "slot_2.clip_strength_2": 0.2, "slot_2.enabled_2": True,
        }),
    }  # fmt: skip
    found = found_in(graph(**changed))
    assert set(found.loras) == {
        LoraEntry("a.safetensors", 0.5, 0.25),
        LoraEntry("b.safetensors", 0.8, 0.8),
        LoraEntry("d.safetensors", 0.3, 0.2),
    }
    assert found.loras[-1].name == "b.safetensors"
    assert found.settings["seed"] == 12


def page(nodes: list[dict[str, Any]]) -> FoundPrompt | None:
    links = [
        [1, 1, 0, 3, 1, "CONDITIONING"],
        [2, 2, 0, 3, 2, "CONDITIONING"],
        [3, 5, 0, 3, 0, "MODEL"],
    ]
    workflow = json.dumps({"nodes": nodes, "links": links})
    return prompt_of_texts(PictureTexts(1, 1, {"workflow": workflow}))


@pytest.mark.parametrize("listed", [True, False], ids=["new page", "old page"])
def test_the_page_s_form(listed):
    def widgets(*names: str) -> list[dict[str, Any]]:
        return [{"name": name, "widget": {"name": name}} for name in names if listed]

    found = page([
        {"id": 1, "type": "CLIPTextEncode", "inputs": widgets("text"), "widgets_values": ["cat"]},
        {"id": 2, "type": "CLIPTextEncode", "inputs": widgets("text"), "widgets_values": ["dog"]},
        {"id": 3, "type": "KSampler", "widgets_values": [5, "randomize", 20, 7, "euler", "simple", 1], "inputs": [
            {"name": "model", "link": 3}, {"name": "positive", "link": 1}, {"name": "negative", "link": 2},
            *widgets("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
        ]},
        {"id": 5, "type": "CheckpointLoaderSimple", "inputs": [], "widgets_values": ["m.safetensors"]},
    ])  # fmt: skip
    assert found is not None
    assert (found.positive, found.negative) == ("cat", "dog")
    assert found.settings["seed"] == 5
    assert found.settings["steps"] == 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(["k", 0]) | st.just("pos"),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["inputs", "nodes", "links", "id", "class_type", "positive"]), inner),
    max_leaves=12,
)  # fmt: skip


@given(value=JSON, place=st.sampled_from(["pos", "neg", "k", "load", "empty"]))
@settings(deadline=None)
def test_a_damaged_graph_hurts_nobody(value, place):
    prompt_of_texts(
        PictureTexts(1, 1, {"prompt": json.dumps(value), "workflow": json.dumps(value)})
    )
    damaged = graph() | {place: value}
    prompt_of_texts(PictureTexts(1, 1, {"prompt": json.dumps(damaged)}))
    looped = graph()
    looped[place]["inputs"] = {
        name: [place, 0] for name in ("positive", "text", "model", "conditioning")
    }
    prompt_of_texts(PictureTexts(1, 1, {"prompt": json.dumps(looped)}))


def test_a_long_chain_ends():
    chain = {f"c{n}": ("Pass", {"conditioning": [f"c{n + 1}", 0]}) for n in range(5000)}
    found = found_in(graph(k=sampler(positive=["c0", 0]), **chain))
    assert found.positive == ""
