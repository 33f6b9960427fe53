"""ComfyUI's layers, but that they take over the weights that a loader gives them, and have none before.

ComfyUI makes a model's layers with weights of their full size and copies the file's into them.
"""

from __future__ import annotations

from typing import Any

import comfy.ops
import torch
from torch import Tensor

from .weight import GgufWeight, as_weight

ALIGNMENT_BYTES = 64  # of torch's own allocations on the CPU (docs/adr/0007)
# Smaller weights are converted once instead of at each use.
_KEPT_FROM_BYTES = 64 * 1024


def layer_weight(given: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight of a file as a layer with weights of this element type should have it."""
    if isinstance(given, GgufWeight):
        return given.for_layer(dtype)
    if given.dtype == dtype:
        return given if given.data_ptr() % ALIGNMENT_BYTES == 0 else given.clone()
    if given.nbytes >= _KEPT_FROM_BYTES and given.element_size() < dtype.itemsize:
        kept = as_weight(given, dtype)
        if kept is not None:
            return kept
    return given.to(dtype)


class _Taking:
    """For a layer of ComfyUI: its weights come from the file, and only from there."""

    _parameters: dict[str, Tensor | None]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "device": "meta"})
        for weight in self._parameters.values():
            if weight is not None:
                weight.requires_grad_(False)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        if any(weight is not None and weight.is_meta for weight in self._parameters.values()):
            return self  # what is not there yet needs not be moved
        return super()._apply(fn, recurse)  # type: ignore[misc]

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        for name, own in self._parameters.items():
            given = state_dict.get(prefix + name)
            if own is not None and isinstance(given, Tensor):
                state_dict[prefix + name] = layer_weight(given, own.dtype)
        assigning = {**local_metadata, "assign_to_params_buffers": True}
        super()._load_from_state_dict(state_dict, prefix, assigning, *args)  # type: ignore[misc]


def _taking_layers() -> dict[str, Any]:
    stock = {name: getattr(comfy.ops.manual_cast, name) for name in dir(comfy.ops.manual_cast)}
    return {
        name: type(name, (_Taking, layer), {})
        for name, layer in stock.items()
        if isinstance(layer, type) and issubclass(layer, torch.nn.Module)
    }


# What ComfyUI's models make their layers of. A weight is converted before each use where it has to be.
Operations = type("Operations", (comfy.ops.manual_cast,), _taking_layers())


def fill_what_is_missing(model: torch.nn.Module) -> None:
    """Give weights that no file had zeros, as ComfyUI's own loading by assignment does; it has named them."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and weight.is_meta:
                zeros = torch.zeros(weight.shape, dtype=weight.dtype)
                module._parameters[name] = torch.nn.Parameter(zeros, requires_grad=False)
