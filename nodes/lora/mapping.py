"""A LoRA's names → the weights of a model, worked out once for each file and model.

ComfyUI's own functions do it. Beside the patches they leave the account: what of the file fits this model.
"""

from __future__ import annotations

import hashlib
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.lora
import comfy.weight_adapter
import torch

from ...utils.errors import ModelFileError
from ...utils.loras.inspection import BUNDLED
from .library import Lora

Patches = dict[Any, Any]
_MAPPED_PER_FILE = 8
# Text encoders', and embeddings that come along.
_NOT_OF_MODEL = ("lora_te", "text_encoder", "lora_prior_te", "te_", "te1_", "te2_", BUNDLED)


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
    model_map = _EMPTY if model is None else _key_map(model, comfy.lora.model_lora_keys_unet)
    clip_map = _EMPTY if clip is None else _key_map(clip.patcher, comfy.lora.model_lora_keys_clip)
    place = model_map.digest, clip_map.digest
    with _lock:
        known = _mapped.setdefault(lora, {})
        if place not in known:
            known[place] = _map(lora, model_map, clip_map)
            while len(known) > _MAPPED_PER_FILE:
                del known[next(iter(known))]
        return known[place]


def only_adds(patches: Iterable[Any]) -> bool:
    """Do these patches leave weights as they are when their strength is 0? Some replace or enlarge them."""
    return all(_only_adds(patch) for patch in patches)


def _only_adds(patch: Any) -> bool:
    if isinstance(patch, tuple):
        return len(patch) == 2 and patch[0] == "diff" and len(patch[1]) == 1
    if isinstance(patch, comfy.weight_adapter.LoRAAdapter):
        return all(part is None for part in patch.weights[5:])  # no new shape
    return type(patch) in _SIZES


def _key_map(patcher: Any, fill: Any) -> KeyMap:
    module: torch.nn.Module = patcher.model
    with _lock:
        made = _key_maps.get(module)
        if made is None:
            names = fill(module, {})
            shapes = _shapes_of(patcher)
            text = repr((sorted(names.items(), key=str), sorted(shapes.items())))
            made = KeyMap(names, shapes, hashlib.sha256(text.encode()).hexdigest())
            _key_maps[module] = made
        return made


def _shapes_of(patcher: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes that weights have without patches, some of which make one larger.

    They are those in use; in a file some are packed, two numbers in a byte.
    """
    now = {**patcher.model.state_dict(), **dict(patcher.model.named_parameters())}
    plain = {key: kept.weight for key, kept in patcher.backup.items()}
    return {key: tuple(plain.get(key, value).shape) for key, value in now.items()}


def _map(lora: Lora, model_map: KeyMap, clip_map: KeyMap) -> Mapped:
    # Together, as ComfyUI's own loader does it: where both know a name, the text encoder's counts.
    names = {**model_map.names, **clip_map.names}
    try:
        patches = comfy.lora.load_lora(lora.weights, names, log_missing=False)
    except (LookupError, RuntimeError, ValueError) as error:
        raise ModelFileError(
            f"The LoRA '{lora.path}' is not complete or not in order: {error}.",
            "Download it again, or ask its author. Luna LoRA Validator tells more.",
        ) from error
    model, model_misfits = _fitting(patches, model_map)
    clip, clip_misfits = _fitting(patches, clip_map)
    of_text = _names_used(lora.weights, clip.values())
    used = of_text | _names_used(lora.weights, model.values())
    return Mapped(
        model,
        clip,
        used=len(used),
        unused=len(lora.weights) - len(used),
        model_misfits=model_misfits,
        clip_misfits=clip_misfits,
        speaks_of_model=any(
            not name.startswith(_NOT_OF_MODEL) for name in lora.weights.keys() - of_text
        ),
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
    size = _SIZES.get(type(patch))
    if size is not None:
        elements = size(*patch.weights)
        return elements is None or elements == math.prod(shape)
    if isinstance(patch, tuple) and len(patch) == 2 and patch[0] == "diff":
        return tuple(patch[1][0].shape) == shape
    return True


def _elements_of_lora(up: Any, down: Any, _: Any, middle: Any, *more: Any) -> int | None:
    reshape = more[1] if len(more) > 1 else None
    return None if middle is not None or reshape is not None else _side(up, 0) * _sides(down, 1)


def _elements_of_loha(up: Any, down: Any, _: Any, __: Any, ___: Any, core: Any, *____: Any) -> int:
    return _elements_of_product(up, down, core)


def _elements_of_lokr(  # noqa: PLR0913  (the fields of ComfyUI's adapter)
    one: Any, two: Any, _: Any, up1: Any, down1: Any, up2: Any, down2: Any, core: Any, *__: Any
) -> int:
    first = _elements_of_product(up1, down1, None) if one is None else _sides(one, 0)
    return first * (_elements_of_product(up2, down2, core) if two is None else _sides(two, 0))


def _elements_of_product(up: Any, down: Any, core: Any) -> int:
    if core is None:
        return _side(up, 0) * _sides(down, 1)
    return _side(up, 1) * _side(down, 1) * _sides(core, 2)


def _side(tensor: Any, number: int) -> int:
    return 0 if tensor is None or tensor.dim() <= number else int(tensor.shape[number])


def _sides(tensor: Any, first: int) -> int:
    """Multiply the sides from this one on; 0 where there is no tensor."""
    return 0 if tensor is None else math.prod(tensor.shape[first:])


# Kind of adapter → how many elements the weight has that its weights are for; None: it may be any.
_SIZES: dict[type, Callable[..., int | None]] = {
    comfy.weight_adapter.LoRAAdapter: _elements_of_lora,
    comfy.weight_adapter.LoHaAdapter: _elements_of_loha,
    comfy.weight_adapter.LoKrAdapter: _elements_of_lokr,
}


def _names_used(weights: Mapping[str, torch.Tensor], patches: Iterable[Any]) -> set[str]:
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
