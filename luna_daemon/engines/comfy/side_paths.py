"""LoRAs beside a layer instead of in its weight: what the layer gives, plus what the two thin matrices give.

For a prompt's few tokens that is a small part of the layer's own product, while a weight costs more to make
than to use. The layer's weight stays the file's. What is left out is only the rounding of the sum to
the weight's element type, half of its last digit at most.

Torch's forward hooks do it, so it reaches layers that are called; a weight that others read out of a layer would
lack its LoRAs. So only layers whose users are known take part: those of ComfyUI's CLIP blocks.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import comfy.clip_model
import comfy.ops
import torch

from ....utils.loras.merge_math import Term
from ...lora_adapters import joined_when_fast

_USERS = (comfy.clip_model.CLIPAttention, comfy.clip_model.CLIPMLP)
_WEIGHT = ".weight"


class _SidePath:
    """What a hook adds to the result of a layer."""

    def __init__(self, term: Term) -> None:
        self._up, self._down, self._scale = term.up.t(), term.down.t(), term.scale

    def __call__(self, layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> Any:
        if layer.weight_function:  # ComfyUI puts the patches in at each use now
            return None
        rows = inputs[0].reshape(-1, inputs[0].shape[-1]).to(self._down.dtype)
        thin = torch.mm(rows, self._down)
        if output.dtype == thin.dtype and output.is_contiguous():
            output.view(-1, output.shape[-1]).addmm_(thin, self._up, alpha=self._scale)
            return None
        added = torch.mm(thin, self._up).mul_(self._scale)
        return output + added.view(output.shape).to(output.dtype)


class SidePaths:
    """The side paths of one model: weight's name → hook."""

    def __init__(self) -> None:
        self._hooks: dict[str, Any] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._hooks

    def add(self, model: torch.nn.Module, key: str, patches: Sequence[Any]) -> bool:
        """Put patches beside their layer; tell whether that could be done."""
        layer = _layer_of(model, key)
        term = joined_when_fast(layer.weight, patches) if layer is not None else None
        if layer is None or term is None:
            return False
        self.remove(key)
        self._hooks[key] = layer.register_forward_hook(_SidePath(term))
        return True

    def remove(self, key: str) -> None:
        """Take the patches of one weight away, if it has any."""
        hook = self._hooks.pop(key, None)
        if hook is not None:
            hook.remove()

    def clear(self) -> None:
        """Take all away."""
        for key in list(self._hooks):
            self.remove(key)


_OF_MODELS: weakref.WeakKeyDictionary[torch.nn.Module, SidePaths] = weakref.WeakKeyDictionary()


def side_paths_of(model: torch.nn.Module) -> SidePaths:
    """Return a model's side paths; all its patchers share them, as they share its weights."""
    return _OF_MODELS.setdefault(model, SidePaths())


def _layer_of(model: torch.nn.Module, key: str) -> Any | None:
    """Return the layer of a weight when it is only ever called, by a block that is known."""
    if not key.endswith(_WEIGHT):
        return None
    user_path, _, name = key.removesuffix(_WEIGHT).rpartition(".")
    user = model.get_submodule(user_path)
    if type(user) not in _USERS:
        return None
    layer = user.get_submodule(name)
    is_linear = isinstance(layer, torch.nn.Linear) and isinstance(layer, comfy.ops.CastWeightBiasOp)
    return layer if is_linear else None
