from __future__ import annotations

import pytest
from luna_collection.benchmarks.packs_area.graphs import (
    SINK,
    SOURCE,
    Catalogue,
    NodeKind,
    Variant,
    sources_of,
)
from luna_collection.benchmarks.packs_area.known_cases import CASES, cases_of
from luna_collection.benchmarks.packs_area.slots import (
    TEXT,
    NoValueError,
    Slot,
    slots_of,
    value_of,
)


def kind(name: str, outputs: tuple[str, ...], /, **required: object) -> NodeKind:
    return NodeKind.of(name, {"required": required}, outputs)


OWN = {
    "Pipe": kind("Pipe", ("PACK_PIPE",), clip=("CLIP",), vae=("VAE",)),
    "Unpipe": kind("Unpipe", ("VAE",), pipe=("PACK_PIPE",)),
    "Encode": kind("Encode", ("CONDITIONING",), clip=("CLIP",), text=("STRING", {})),
    "Count": kind("Count", ("INT",), image=("IMAGE",)),
    "Sample": kind("Sample", ("LATENT",), vae=("VAE",), sigmas=("SIGMAS",)),
    "Control": kind("Control", ("IMAGE",), vae=("VAE",), net=("CONTROL_NET",)),
    "Load": kind("Load", ("CONTROL_NET",), name=([],)),
}
STOCK = {"Scheduler": kind("Scheduler", ("SIGMAS",), model=("MODEL",), steps=("INT", {}))}
CATALOGUE = Catalogue(OWN, STOCK)


def test_nodes_that_take_a_model_or_a_thing_that_may_hold_one_are_concerned():
    assert CATALOGUE.carrying == {"PACK_PIPE"}
    assert CATALOGUE.concerned() == ["Pipe", "Unpipe", "Encode", "Sample", "Control"]


def test_a_thing_of_the_pack_that_holds_no_model_is_no_concern():
    own = {
        "Mask": kind("Mask", ("PARTS",), mask=("MASK",)),
        "Detail": kind("Detail", ("PARTS",), parts=("PARTS",), vae=("VAE",)),
        "Merge": kind("Merge", ("PARTS",), parts=("PARTS",)),
    }
    assert Catalogue(own, {}).concerned() == ["Detail"]


def test_a_graph_has_a_source_for_each_given_type_and_a_sink_for_all_outputs():
    graph, target = CATALOGUE.graph("Encode", {}, Variant())
    assert sources_of(graph) == ["CLIP"]
    assert graph[target] == {"class_type": SINK, "inputs": {"output_0": ["2", 0]}}
    assert graph["2"] == {"class_type": "Encode", "inputs": {"clip": ["1", 0], "text": TEXT}}


def test_what_a_pack_makes_comes_from_its_own_node():
    graph, _ = CATALOGUE.graph("Unpipe", {}, Variant())
    assert [node["class_type"] for node in graph.values()] == [
        *(SOURCE, SOURCE, "Pipe", "Unpipe", SINK)
    ]


def test_what_only_comfyui_makes_comes_from_its_node():
    graph, _ = CATALOGUE.graph("Sample", {}, Variant())
    scheduler = next(node for node in graph.values() if node["class_type"] == "Scheduler")
    assert scheduler["inputs"]["steps"] == 1


def test_comfyuis_own_nodes_can_be_run_too():
    graph, target = CATALOGUE.graph("Scheduler", {}, Variant())
    assert sources_of(graph) == ["MODEL"]
    assert graph[target]["class_type"] == SINK


def test_a_node_that_needs_sdxl_gets_its_encoders():
    graph, _ = CATALOGUE.graph("Encode", {}, Variant(is_sdxl=True))
    assert sources_of(graph) == ["SDXL_CLIP"]


@pytest.mark.parametrize(("avoided", "giver"), [((), "Large"), (("Large",), "Small")])
def test_a_node_to_avoid_gives_something_only_where_no_other_does(avoided, giver):
    own = {
        "Large": kind("Large", ("HOOK",)),
        "Small": kind("Small", ("HOOK",), mask=("MASK",)),
        "Detail": kind("Detail", ("IMAGE",), hook=("HOOK",)),
    }
    graph, _ = Catalogue(own, {}, avoided=avoided).graph("Detail", {}, Variant())
    assert giver in [node["class_type"] for node in graph.values()]
    alone = {name: node for name, node in own.items() if name != "Small"}
    graph, _ = Catalogue(alone, {}, avoided=avoided).graph("Detail", {}, Variant())
    assert "Large" in [node["class_type"] for node in graph.values()]


def test_what_nothing_gives_is_said_and_leaves_nothing_behind():
    with pytest.raises(NoValueError, match="'net' \\(CONTROL_NET\\)"):
        CATALOGUE.graph("Control", {}, Variant())


def test_chosen_values_replace_defaults_and_may_name_a_given_thing():
    graph, _ = CATALOGUE.graph("Encode", {"text": "a", "clip": "@SDXL_CLIP"}, Variant())
    assert sources_of(graph) == ["SDXL_CLIP"]
    assert graph["2"]["inputs"] == {"text": "a", "clip": ["1", 0]}


def test_optional_inputs_are_connected_where_that_is_wanted():
    declared = {"required": {"clip": ("CLIP",)}, "optional": {"image": ("IMAGE",), "vae": ("VAE",)}}
    catalogue = Catalogue({"N": NodeKind.of("N", declared, ("IMAGE",))}, {})
    assert set(sources_of(catalogue.graph("N", {}, Variant())[0])) == {"CLIP", "IMAGE", "VAE"}
    bare = catalogue.graph("N", {}, Variant(is_full=False))[0]
    assert set(sources_of(bare)) == {"CLIP", "VAE"}


@pytest.mark.parametrize(
    ("told", "value"),
    [
        ((["a", "b"],), "a"),
        ((["a", "b"], {"default": "b"}), "b"),
        (("COMBO", {"options": ["x", "y"], "default": "gone"}), "x"),
        (("INT", {"default": 7}), 7),
        (("INT", {}), 1),
        (("FLOAT", {"default": 0.5}), 0.5),
        (("BOOLEAN", {"default": True}), True),
        (("STRING", {"default": "as it is"}), "as it is"),
        (("STRING", {"multiline": True}), TEXT),
        (("STRING", {}), ""),
    ],
)
def test_a_widget_has_its_default_or_the_first_choice(told, value):
    (slot,) = slots_of({"required": {"thing": told}})
    assert value_of(slot) == value


@pytest.mark.parametrize(
    ("name", "options", "value"),
    [
        ("width", {"default": 1024}, 64),
        ("tile_size", {"default": 512, "min": 256}, 256),
        ("steps", {"default": 20}, 2),
        ("frames", {"default": 81}, 2),
        ("width", {"default": 32}, 32),
        ("seed", {"default": 1024}, 1024),
    ],
)
def test_numbers_for_real_images_become_small(name, options, value):
    assert value_of(Slot(name, "INT", options=options)) == value


def test_sizes_with_decimals_become_small_too():
    found = value_of(Slot("guide_size", "FLOAT", options={"default": 512.0, "min": 64.0}))
    assert (found, type(found)) == (64.0, float)
    assert value_of(Slot("cfg", "FLOAT", options={"default": 512.0})) == 512.0


def test_an_empty_list_of_choices_is_said():
    with pytest.raises(NoValueError, match="'model_name' has nothing to choose from"):
        value_of(slots_of({"required": {"model_name": ([],)}})[0])


def test_the_first_choice_of_a_dynamic_list_brings_its_inputs():
    choices = [
        {"key": "one", "inputs": {"required": {"vae": ("VAE", {})}}},
        {"key": "two", "inputs": {}},
    ]
    slots = slots_of({"required": {"way": ("COMFY_DYNAMICCOMBO_V3", {"options": choices})}})
    assert [(slot.name, slot.kind) for slot in slots] == [("way", "COMBO"), ("way.vae", "VAE")]


def test_known_cases_come_after_the_one_with_defaults():
    node = next(iter(CASES))
    assert next(iter(cases_of(node))) == ""
    assert len(cases_of(node)) == 1 + len(CASES[node])
    assert cases_of("unknown") == {"": {}}
