"""A workflow as ComfyUI's page saves it → the form of its API.

The page saves widgets' values without their names. Newer pages list the widgets among a node's inputs; for
older files the order of the most common nodes' widgets is known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_CONTROL = ("fixed", "increment", "decrement", "randomize")  # the widget that a page adds to a seed
_MUTED = (2, 4)  # modes in which a node does not run
_WIDGETS: dict[str, tuple[str, ...]] = {
    "CLIPTextEncode": ("text",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "KSampler": ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("add_noise", "noise_seed", "steps", "cfg", "sampler_name", "scheduler"),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "PrimitiveStringMultiline": ("value",),
    "RandomNoise": ("noise_seed",),
    "UNETLoader": ("unet_name", "weight_dtype"),
}


def api_prompt_of(workflow: object) -> dict[str, Any]:
    """Return the prompt that a workflow stands for, as far as it can be known; {} when it is none."""
    if not isinstance(workflow, Mapping):
        return {}
    sources = dict(_sources(workflow.get("links")))
    nodes = workflow.get("nodes")
    listed = nodes if isinstance(nodes, list) else []
    return {
        str(node["id"]): {
            "class_type": str(node.get("type", "")),
            "inputs": {**_values(node), **dict(_linked(node, sources))},
        }
        for node in listed
        if isinstance(node, Mapping) and "id" in node and node.get("mode") not in _MUTED
    }


def _sources(links: object) -> Iterator[tuple[Any, list[Any]]]:
    """Yield each link's number with the node and output that it comes from."""
    for link in links if isinstance(links, list) else ():
        if isinstance(link, list) and len(link) >= 3 and isinstance(link[0], int):
            yield link[0], [str(link[1]), link[2]]
        elif isinstance(link, Mapping) and isinstance(link.get("id"), int):
            yield link["id"], [str(link.get("origin_id")), link.get("origin_slot")]


def _linked(node: Mapping[str, Any], sources: Mapping[Any, list[Any]]) -> Iterator[tuple[str, Any]]:
    for given in _inputs(node):
        link = given.get("link")
        if isinstance(link, int) and link in sources:
            yield str(given.get("name")), sources[link]


def _inputs(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inputs = node.get("inputs")
    return (
        [each for each in inputs if isinstance(each, Mapping)] if isinstance(inputs, list) else []
    )


def _values(node: Mapping[str, Any]) -> dict[str, Any]:
    values = node.get("widgets_values")
    if isinstance(values, Mapping):
        return {str(name): value for name, value in values.items() if not isinstance(value, list)}
    if not isinstance(values, list):
        return {}
    listed = [str(each.get("name")) for each in _inputs(node) if "widget" in each]
    known = _WIDGETS.get(str(node.get("type")), ())
    names = listed if set(known) <= set(listed) else known
    plain = [value for value in values if value not in _CONTROL] if _has_seed(names) else values
    if len(plain) < len(names) or (names is listed and len(plain) != len(names)):
        return {}  # which value is whose cannot be told
    return {name: value for name, value in zip(names, plain, strict=False) if value is not None}


def _has_seed(names: Sequence[str]) -> bool:
    return any(name in ("seed", "noise_seed") for name in names)
