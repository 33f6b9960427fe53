"""What came out of a node, as plain data that can be compared bit by bit.

A model is what it does: a CLIP is what it makes of a text, a VAE what it decodes and encodes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import comfy.clip_vision
import comfy.model_patcher
import comfy.sd
import numpy as np
import torch

from .slots import TEXT

DEPTH_MAX = 14  # of a tensor in the options of a model: 12
# What is known by its name: code, not data.
_NAMED = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def latent(width: int = 5, height: int = 4) -> torch.Tensor:
    """Return a latent of SD1.5."""
    return torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(5))


def image(width: int = 64, height: int = 64) -> torch.Tensor:
    """Return an image."""
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(6))


def observed(value: Any) -> Any:
    """Return what a value is, apart from the objects that it was in."""
    return _Observer().see(value, 0)


class _Observer:
    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # keeps what was seen alive, so that no id comes twice

    def see(self, value: Any, depth: int) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().clone() if not value.is_meta else f"<meta {tuple(value.shape)}>"
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(value).copy())
        if id(value) in self._seen:
            return "<seen>"
        self._seen[id(value)] = value
        if depth > DEPTH_MAX:
            return f"<{type(value).__name__}>"
        for kind, look in _LOOKS:
            if isinstance(value, kind):
                return look(self, value, depth)
        return self._object(value, depth)

    def mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        return {str(key): self.see(item, depth + 1) for key, item in value.items()}

    def sequence(self, value: Any, depth: int) -> list[Any]:
        return [self.see(item, depth + 1) for item in value]

    def clip(self, value: Any, depth: int) -> dict[str, Any]:
        found = value.encode_from_tokens_scheduled(value.tokenize(TEXT))
        return {"CLIP": self.see(found, depth + 1)}

    def vae(self, value: Any, depth: int) -> dict[str, Any]:
        decoded = value.decode(latent())
        encoded = value.encode(image(40, 32))
        again = value.encode(decoded)
        return {"VAE": self.see([decoded, encoded, again], depth + 1)}

    def clip_vision(self, value: Any, depth: int) -> dict[str, Any]:
        return {"CLIP_VISION": self.see(value.encode_image(image()), depth + 1)}

    def patcher(self, value: Any, depth: int) -> dict[str, Any]:
        patches = {key: [_patch(patch) for patch in value.patches[key]] for key in value.patches}
        told = {
            "patches": patches,
            "object_patches": sorted(value.object_patches),
            "options": value.model_options,
        }
        return {"MODEL": self.see(told, depth + 1)}

    def partial(self, value: Any, depth: int) -> dict[str, Any]:
        return {"call of": self.see([value.func, value.args, value.keywords], depth + 1)}

    def _object(self, value: Any, depth: int) -> Any:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        if isinstance(value, _NAMED):
            return getattr(value, "__qualname__", name)
        parts = getattr(value, "__dict__", None)
        return {"object": name, **(self.mapping(parts, depth) if parts else {})}


def _patch(patch: Any) -> Any:
    strength, value, *others = patch
    return [strength, getattr(value, "weights", value), *others]


# More special ones first.
_LOOKS: tuple[tuple[Any, Callable[[_Observer, Any, int], Any]], ...] = (
    (comfy.sd.CLIP, _Observer.clip),
    (comfy.sd.VAE, _Observer.vae),
    (comfy.clip_vision.ClipVisionModel, _Observer.clip_vision),
    (comfy.model_patcher.ModelPatcher, _Observer.patcher),
    (functools.partial, _Observer.partial),
    (torch.nn.Module, lambda self, value, depth: f"<{type(value).__qualname__}>"),
    (Mapping, _Observer.mapping),
    ((list, tuple, set, frozenset), _Observer.sequence),
)


def difference(ours: Any, stock: Any, where: str = "") -> str:
    """Return where two observed values differ first, and how; "" when nowhere."""
    if type(ours) is not type(stock):
        return f"{where}: {type(ours).__name__} instead of {type(stock).__name__}"
    if isinstance(ours, torch.Tensor):
        return _tensor_difference(ours, stock, where)
    if isinstance(ours, dict):
        if ours.keys() != stock.keys():
            return f"{where}: has {sorted(ours.keys() ^ stock.keys())} on one side only"
        pairs = ((f"{where}.{key}", ours[key], stock[key]) for key in ours)
        return next(filter(None, (difference(a, b, at) for at, a, b in pairs)), "")
    if isinstance(ours, list):
        if len(ours) != len(stock):
            return f"{where}: {len(ours)} things instead of {len(stock)}"
        trios = ((f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(ours, stock, strict=True)))
        return next(filter(None, (difference(a, b, at) for at, a, b in trios)), "")
    same = ours == stock or (ours != ours and stock != stock)
    return "" if same else f"{where}: {str(ours)[:60]} instead of {str(stock)[:60]}"


def _tensor_difference(ours: torch.Tensor, stock: torch.Tensor, where: str) -> str:
    for name in ("dtype", "shape", "device"):
        if getattr(ours, name) != getattr(stock, name):
            return f"{where}: {name} {getattr(ours, name)} instead of {getattr(stock, name)}"
    if ours.stride() != stock.stride():
        return f"{where}: strides {ours.stride()} instead of {stock.stride()}"
    if torch.equal(ours, stock) or torch.equal(_bits(ours), _bits(stock)):
        return ""
    largest = (ours.double() - stock.double()).abs().max().item()
    return f"{where}: values differ by up to {largest:.3g}"


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8) if tensor.dim() else tensor
