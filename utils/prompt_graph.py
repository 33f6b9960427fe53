"""What a prompt, ComfyUI's graph in API form, says about itself: links, which graph it is, where a node's inputs are from.

A prompt is `{node id: {"class_type": …, "inputs": {name: value or [node id, output index]}}}`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Prompt = Mapping[str, Mapping[str, Any]]
OUTPUTS = "luna_outputs"  # in a node's _meta: what it gave, by the numbers of its outputs


def connected_outputs(prompt: Prompt, node_id: str) -> frozenset[int]:
    """Return the indexes of a node's outputs that some input in the prompt is linked to."""
    return frozenset(
        value[1]
        for node in prompt.values()
        for value in node.get("inputs", {}).values()
        if is_link(value) and str(value[0]) == node_id
    )


def linked_inputs(prompt: Prompt, node_id: str) -> frozenset[str]:
    """Return the names of a node's inputs that are linked to another node."""
    inputs = prompt.get(node_id, {}).get("inputs", {})
    return frozenset(name for name, value in inputs.items() if is_link(value))


def is_link(value: object) -> bool:
    """Is this input's value a link to another node's output?"""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], (str, int))
        and type(value[1]) is int
    )


def lineage(prompt: Prompt, node_id: str) -> str:
    """Return a digest of a node and of everything that its inputs come from, with all values.

    What nodes are called makes no difference. A node that gives the same for the same inputs gives the same
    for the same lineage.
    """
    numbers = {node_id: 0}
    waiting = [node_id]
    described: list[list[Any]] = []
    for each in waiting:  # grows meanwhile
        node = prompt.get(each, {})
        inputs: dict[str, Any] = {}
        for name, value in sorted(node.get("inputs", {}).items()):
            if is_link(value):
                source = str(value[0])
                if source not in numbers:
                    numbers[source] = len(numbers)
                    waiting.append(source)
                inputs[name] = {"link": [numbers[source], value[1]]}
            else:
                inputs[name] = [value]
        described.append([node.get("class_type"), inputs])
    return hashlib.sha256(json.dumps(described, default=repr).encode()).hexdigest()


def workflow_id(server: str, prompt: Prompt, workflow: Mapping[str, Any] | None = None) -> str:
    """Return a name for a graph that stays the same from run to run.

    The page gives each workflow an id; a prompt that comes through the API has none and is known by its
    structure: nodes and links, not the values, which change from run to run.

    Args:
        server: Which ComfyUI it is: two of them with the same graph are two workflows.
        prompt: The graph.
        workflow: What the page stores in images beside the prompt, if it came from the page.
    """
    named = str((workflow or {}).get("id") or "")
    text = f"id {named}" if named else json.dumps(_structure(prompt), sort_keys=True)
    return f"comfyui {server} {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _structure(prompt: Prompt) -> dict[str, Any]:
    return {
        str(node_id): [
            node.get("class_type"),
            {name: value for name, value in node.get("inputs", {}).items() if is_link(value)},
        ]
        for node_id, node in prompt.items()
    }
