from __future__ import annotations

import copy

import pytest
from luna_collection.utils.prompt_graph import (
    connected_outputs,
    lineage,
    linked_inputs,
    workflow_id,
)

PROMPT = {
    "1": {"class_type": "LunaModelRouter", "inputs": {"model_name": "a.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["1", 1]}},
    "3": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "positive": ["2", 0], "seed": 7}},
    "4": {"class_type": "Nested", "inputs": {"mode.ref": ["1", 6], "sizes": [512, 1]}},
}


def edited(node: str, **inputs: object) -> dict:
    prompt = copy.deepcopy(PROMPT)
    prompt[node]["inputs"].update(inputs)
    return prompt


def test_links_to_a_node_are_found_also_from_nested_inputs():
    assert connected_outputs(PROMPT, "1") == {0, 1, 6}
    assert connected_outputs(PROMPT, "2") == {0}
    assert connected_outputs(PROMPT, "3") == frozenset()


def test_the_linked_inputs_of_a_node():
    assert linked_inputs(PROMPT, "3") == {"model", "positive"}
    assert linked_inputs(PROMPT, "1") == frozenset()
    assert linked_inputs(PROMPT, "99") == frozenset()


def test_a_lineage_is_of_a_node_and_of_what_comes_before_it():
    assert lineage(PROMPT, "2") == lineage(edited("3", seed=8), "2")
    assert lineage(PROMPT, "3") != lineage(edited("3", seed=8), "3")
    assert lineage(PROMPT, "3") != lineage(edited("2", text="a dog"), "3")
    assert lineage(PROMPT, "3") != lineage(edited("1", model_name="b.safetensors"), "3")
    assert lineage(PROMPT, "3") != lineage(edited("3", model=["1", 1]), "3")
    assert lineage(PROMPT, "99") != lineage(PROMPT, "1")


def test_a_lineage_does_not_depend_on_what_nodes_are_called():
    renamed = {
        "a": PROMPT["1"],
        "5:2": {**PROMPT["2"], "inputs": {"clip": ["a", 1], "text": "a fox"}},
        "c": {
            "class_type": "KSampler",
            "inputs": {"seed": 7, "positive": ["5:2", 0], "model": ["a", 0]},
        },
    }
    assert lineage(renamed, "c") == lineage(PROMPT, "3")


def test_the_lineage_of_a_circle_ends():
    circle = {"1": {"class_type": "A", "inputs": {"a": ["2", 0]}}, "2": {"inputs": {"b": ["1", 0]}}}
    assert lineage(circle, "1") != lineage(circle, "2")


def test_a_list_of_numbers_is_no_link():
    assert connected_outputs(PROMPT, "512") == {1}  # looks like one, and ComfyUI takes it for one
    assert connected_outputs(edited("4", sizes=[1.5, 1], flags=["1", True]), "1") == {0, 1, 6}


def test_the_same_graph_with_other_values_is_the_same_workflow():
    again = edited("2", text="a lighthouse")
    again["3"]["inputs"]["seed"] = 8
    again["1"]["is_changed"] = ["x"]  # ComfyUI writes it into the prompt
    assert workflow_id("8188-a", again) == workflow_id("8188-a", PROMPT)


@pytest.mark.parametrize(
    ("server", "prompt"),
    [
        ("8189-a", PROMPT),
        ("8188-a", edited("3", negative=["2", 0])),
        ("8188-a", edited("2", clip=["4", 0])),
        ("8188-a", {key: node for key, node in PROMPT.items() if key != "4"}),
    ],
    ids=["another server", "another link", "a link elsewhere", "a node less"],
)
def test_another_graph_or_server_is_another_workflow(server, prompt):
    assert workflow_id(server, prompt) != workflow_id("8188-a", PROMPT)


def test_the_id_of_the_page_counts_more_than_the_structure():
    page = {"id": "5b0c", "nodes": []}
    same = workflow_id("8188-a", edited("3", negative=["2", 0]), page)
    assert same == workflow_id("8188-a", PROMPT, page)
    assert same != workflow_id("8188-a", PROMPT, {"id": "77aa"})
    assert workflow_id("8188-a", PROMPT, {"nodes": []}) == workflow_id("8188-a", PROMPT)


def test_the_name_fits_into_a_message():
    assert len(workflow_id("8188-a1b2c3", PROMPT)) < 64
