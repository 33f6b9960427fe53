"""A LoRA's names → the weights of a model, worked out once for each file and model.

ComfyUI's own functions do it. Beside the patches they leave the account: what of the file fits this model.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.lora
import comfy.weight_adapter
import torch

from .library import Lora

Patches = dict[Any, Any]
_MAPPED_PER_FILE = 8
_TEXT_PREFIXES = ("lora_te", "text_encoder", "lora_prior_te", "te_", "te1_", "te2_")


@dataclass(frozen=True, eq=False)
class KeyMap:
    """What LoRAs call the weights of a model.

    Attributes:
        names: LoRA's name → the weight's key, or (key, part of it, …).
        shapes: The weight's key → its shape.
        digest: Names the two by content.
    """

    names: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    digest: str


@dataclass(frozen=True, eq=False)
class Mapped:
    """A LoRA for one diffusion model and one set of text encoders.

    Attributes:
        model: Patches for the diffusion model.
        clip: Patches for the text encoders.
        used: Tensors of the file that work somewhere.
        unused: Those that do not: no weight has their name, or it has another size.
        model_misfits: Weights of the diffusion model that have a patch's name but not its size.
        clip_misfits: The same of the text encoders.
        speaks_of_model: Has the file something for a diffusion model at all?
    """

    model: Patches
    clip: Patches
    used: int
    unused: int
    model_misfits: int
    clip_misfits: int
    speaks_of_model: bool


_EMPTY = KeyMap({}, {}, "")
_lock = threading.Lock()
_key_maps: weakref.WeakKeyDictionary[torch.nn.Module, KeyMap] = weakref.WeakKeyDictionary()
_mapped: weakref.WeakKeyDictionary[Lora, dict[tuple[str, str], Mapped]] = (
    weakref.WeakKeyDictionary()
)


def map_lora(lora: Lora, model: Any, clip: Any) -> Mapped:
    """Return the patches of a LoRA for a model and text encoders, either of which may be None."""
    model_map = _EMPTY if model is None else _key_map(model.model, comfy.lora.model_lora_keys_unet)
    clip_map = (
        _EMPTY if clip is None else _key_map(clip.cond_stage_model, comfy.lora.model_lora_keys_clip)
    )
    place = model_map.digest, clip_map.digest
    with _lock:
        known = _mapped.setdefault(lora, {})
        if place not in known:
            known[place] = _map(lora, model_map, clip_map)
            while len(known) > _MAPPED_PER_FILE:
                del known[next(iter(known))]
        return known[place]


def _key_map(module: torch.nn.Module, fill: Any) -> KeyMap:
    with _lock:
        made = _key_maps.get(module)
        if made is None:
            names = fill(module, {})
            shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
            text = repr((sorted(names.items(), key=str), sorted(shapes.items())))
            made = KeyMap(names, shapes, hashlib.sha256(text.encode()).hexdigest())
            _key_maps[module] = made
        return made


def _map(lora: Lora, model_map: KeyMap, clip_map: KeyMap) -> Mapped:
    # Together, as ComfyUI's own loader does it: where both know a name, the text encoder's counts.
    names = {**model_map.names, **clip_map.names}
    patches = comfy.lora.load_lora(lora.weights, names, log_missing=False)
    model, model_misfits = _fitting(patches, model_map)
    clip, clip_misfits = _fitting(patches, clip_map)
    used = _names_used(lora.weights, (*model.values(), *clip.values()))
    return Mapped(
        model,
        clip,
        used=len(used),
        unused=len(lora.weights) - len(used),
        model_misfits=model_misfits,
        clip_misfits=clip_misfits,
        speaks_of_model=any(not name.startswith(_TEXT_PREFIXES) for name in lora.weights),
    )


def _fitting(patches: Patches, key_map: KeyMap) -> tuple[Patches, int]:
    """Return the patches for one side, and how many have a name there but another size."""
    fitting: Patches = {}
    misfits = 0
    for target, patch in patches.items():
        shape = key_map.shapes.get(target if isinstance(target, str) else target[0])
        if shape is None:
            continue
        if _fits(patch, _size_of(target, shape)):
            fitting[target] = patch
        else:
            misfits += 1
    return fitting, misfits


def _size_of(target: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the part of a weight that a patch is for."""
    if isinstance(target, str) or target[1] is None:
        return shape
    dim, _, length = target[1]
    return (*shape[:dim], length, *shape[dim + 1 :])


def _fits(patch: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether ComfyUI could add a patch to a weight; kinds that it checks in other ways, it may."""
    if isinstance(patch, comfy.weight_adapter.LoRAAdapter):
        up, down, _, middle, _, reshape = (*patch.weights, None)[:6]
        if middle is not None or reshape is not None:
            return True
        return bool(up.shape[0] * down[0].numel() == torch.Size(shape).numel())
    if isinstance(patch, tuple) and len(patch) == 2 and patch[0] == "diff":
        return tuple(patch[1][0].shape) == shape
    return True


def _names_used(weights: Mapping[str, torch.Tensor], patches: tuple[Any, ...]) -> set[str]:
    """Return the names of a file's tensors that went into patches, with their alphas and other numbers."""
    inside = {id(tensor) for patch in patches for tensor in _tensors(patch)}
    used = {name for name, tensor in weights.items() if id(tensor) in inside}
    stems = {stem for name in used for stem in _stems(name)}
    numbers = {name for name in weights if name not in used and name.rpartition(".")[0] in stems}
    return used | numbers


def _stems(name: str) -> Iterator[str]:
    """Yield what may be the name of a whole layer: "a.lora_up.weight" → "a.lora_up", "a"."""
    first = name.rpartition(".")[0]
    yield first
    yield first.rpartition(".")[0]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, comfy.weight_adapter.WeightAdapterBase):
        yield from _tensors(value.weights)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
