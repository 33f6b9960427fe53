"""Seed, sampler, size, model and LoRAs of the run that drew a picture."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InputError
from ..loras.stack import LoraEntry, read_stack
from .comfy_graph import ComfyGraph, Node

_SETTINGS = ("steps", "cfg", "sampler_name", "scheduler", "denoise")
_SEEDS = ("seed", "noise_seed")
_NUMBERS = ("value", "int", "number", *_SEEDS)
_MODELS = ("ckpt_name", "unet_name", "model_name")
_MODEL_WAYS = re.compile(r".*(?:model|pipe|guider|lora).*")
_SIZE_WAYS = re.compile(r".*(?:latent|samples|pipe).*")
_SETTING_WAYS = re.compile(r".*(?:noise|sampler|sigmas|guider|pipe|latent).*")
_NUMBERED = re.compile(r"(?:.*\.)?lora(?:_name)?_(\d{1,3})")
_MODEL_STRENGTHS = ("model_strength_{}", "model_str_{}", "lora_wt_{}", "strength_{}", "weight_{}")
_CLIP_STRENGTHS = ("clip_strength_{}", "clip_str_{}")


def settings_at(graph: ComfyGraph, sampler: Node) -> dict[str, Any]:
    """Return what is known of a sampler's settings, by ComfyUI's names."""
    found: dict[str, Any] = {}
    for node in _along(graph, sampler, _SETTING_WAYS):
        for name in _SEEDS:
            seed = _number(graph, node.inputs.get(name))
            if seed is not None:
                found.setdefault("seed", seed)
        for name in _SETTINGS:
            value = node.inputs.get(name)
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                found.setdefault(name, value)
    for node in _along(graph, sampler, _MODEL_WAYS):
        for name in _MODELS:
            if isinstance(node.inputs.get(name), str):
                found.setdefault("model", node.inputs[name])
    return found


def size_at(graph: ComfyGraph, sampler: Node) -> tuple[int, int]:
    """Return the width and height that were asked for; 0 where they are not in the graph."""
    for node in _along(graph, sampler, _SIZE_WAYS):
        sides = [_number(graph, node.inputs.get(side)) for side in ("width", "height")]
        if sides[0] and sides[1]:
            return sides[0], sides[1]
    return 0, 0


def loras_at(graph: ComfyGraph, sampler: Node) -> tuple[LoraEntry, ...]:
    """Return the LoRAs on the model's way to the sampler, in the order in which they were applied."""
    nodes = list(_along(graph, sampler, _MODEL_WAYS))
    return tuple(lora for node in reversed(nodes) for lora in _loras_of(node.inputs))


def _along(graph: ComfyGraph, start: Node, ways: re.Pattern[str]) -> Iterator[Node]:
    """Yield a node and those behind it, by way of inputs whose names fit."""
    waiting, seen = [start], set()
    while waiting:
        node = waiting.pop(0)
        if node.id in seen:
            continue
        seen.add(node.id)
        yield node
        waiting += [before for name, before in graph.links(node) if ways.fullmatch(name)]


def _number(graph: ComfyGraph, value: object, steps: int = 0) -> int | None:
    """Return a whole number, or the one that a node with a number gives."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    before = graph.behind(value)
    if before is None or steps > len(_NUMBERS):
        return None
    numbers = (_number(graph, before.inputs.get(name), steps + 1) for name in _NUMBERS)
    return next((number for number in numbers if number is not None), None)


def _loras_of(inputs: Mapping[str, Any]) -> Iterator[LoraEntry]:
    """Yield what a loader or stacker holds, in the forms of the known packs."""
    if inputs.get("enabled") is False:
        return
    name = inputs.get("lora_name")
    if isinstance(name, str):
        model = _first(inputs, ("strength_model", "model_strength", "strength"))
        clip = _first(inputs, ("strength_clip", "clip_strength"))
        yield from _entry(name, model, clip)
    for key, value in inputs.items():
        match = _NUMBERED.fullmatch(key)
        if isinstance(value, Mapping) and isinstance(value.get("lora"), str):
            if value.get("on", True):
                yield from _entry(value["lora"], value.get("strength"), value.get("strengthTwo"))
        elif match and isinstance(value, str):
            yield from _from_slot(inputs, key[: match.start(1)], match.group(1), value)


def _from_slot(
    inputs: Mapping[str, Any], before: str, number: str, name: str
) -> Iterator[LoraEntry]:
    folder = before.rpartition(".")[0]
    prefix = f"{folder}." if folder else ""
    if inputs.get(f"{prefix}enabled_{number}") is False:
        return
    model = _first(inputs, [prefix + each.format(number) for each in _MODEL_STRENGTHS])
    clip = _first(inputs, [prefix + each.format(number) for each in _CLIP_STRENGTHS])
    yield from _entry(name, model, clip)


def _entry(name: str, model: object, clip: object) -> tuple[LoraEntry, ...]:
    try:
        return read_stack([(name, 1.0 if model is None else model, clip)])
    except InputError:
        return read_stack([(name, 1.0)])  # its strength came from a link, and is not in the graph


def _first(inputs: Mapping[str, Any], names: Any) -> object:
    return next(
        (inputs[name] for name in names if isinstance(inputs.get(name), (int, float))), None
    )
