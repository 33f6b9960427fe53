"""Weights are taken over from the mapped file instead of being copied, where no result can tell.

ComfyUI's own loaders run unchanged, but with a patcher that says what ComfyUI's dynamic one says: assign
the tensors of the state dict. Before that each is made what a copy would be: of the element type and the
order in memory that the module has for it. A tensor that needs no change stays a view of the file:
loading it costs nothing, and all processes of the machine share its pages.

A CPU's matrix product may round by the address of its operands (docs/adr/0006). So a weight that is
multiplied as it is must lie where torch would have put it, at a multiple of 64, or it is copied; one that
ComfyUI converts before each use may lie anywhere. On other devices all weights are copied anyway.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_patcher
import comfy.ops
import torch

from .operations import ALIGNMENT_BYTES
from .weight import GgufWeight

# What ComfyUI's loaders make. Releases before 0.12 know one kind of patcher, and copy whatever it says.
_PATCHER = next(
    name for name in ("CoreModelPatcher", "ModelPatcher") if hasattr(comfy.model_patcher, name)
)


@contextmanager
def assigned_weights(
    computes_in: torch.dtype | None, patcher_class: type[Any] = comfy.model_patcher.ModelPatcher
) -> Iterator[None]:
    """Let ComfyUI's loaders, as long as this lasts, assign weights in this thread.

    Args:
        computes_in: The element type that the model's products are made in when ComfyUI converts the
            weights before each use; None: it uses the weights as they are.
        patcher_class: What the patchers that they make are to be; a class of ModelPatchers.
    """
    stock = getattr(comfy.model_patcher, _PATCHER)
    thread = threading.get_ident()

    class Loading(_LoadingPatcher, patcher_class):
        products_in = computes_in

        def __new__(cls, *args: Any, **options: Any) -> Any:
            if threading.get_ident() != thread:
                return stock(*args, **options)
            return super().__new__(cls)

    setattr(comfy.model_patcher, _PATCHER, Loading)
    try:
        yield
    finally:
        setattr(comfy.model_patcher, _PATCHER, stock)


def finish(patcher: Any, patcher_class: type[Any]) -> None:
    """End the loading of a model: from now on its patcher is nothing but one of this class.

    Raises:
        RuntimeError: A weight was left without a value.
    """
    if isinstance(patcher, _LoadingPatcher):
        patcher.end_loading()
    patcher.__class__, patcher.size = patcher_class, 0
    empty = [name for name, weight in _tensors(patcher.model) if weight.is_meta]
    if empty:
        raise RuntimeError(f"The weights {', '.join(empty[:3])} have no value after loading.")


class _LoadingPatcher:
    """Makes ComfyUI's loaders assign, and sees to it that what they assign is what a copy would be."""

    products_in: torch.dtype | None = None
    load_device: Any

    def __init__(self, model: Any, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)  # type: ignore[call-arg]
        self._hooks = [
            module.register_load_state_dict_pre_hook(self._fit) for module in model.modules()
        ]

    def is_dynamic(self) -> bool:
        """ComfyUI asks this to choose between assigning and copying."""
        return True

    def end_loading(self) -> None:
        """Take the hooks off the modules."""
        for hook in self._hooks:
            hook.remove()
        del self._hooks

    def _fit(self, module: torch.nn.Module, state_dict: Any, prefix: str, *_: Any) -> None:
        for name, own in _own_tensors(module):
            given = state_dict.get(prefix + name)
            if not isinstance(given, torch.Tensor) or given.shape != own.shape:
                continue
            if isinstance(given, GgufWeight) and isinstance(module, comfy.ops.CastWeightBiasOp):
                kept = torch.nn.Parameter(given.for_layer(own.dtype), requires_grad=False)
                # Older releases copy what they are given into what is there, which then is the same.
                module._parameters[name] = state_dict[prefix + name] = kept
            else:
                state_dict[prefix + name] = self._like_a_copy(given, own)

    def _like_a_copy(self, given: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        if given.is_meta or type(given) not in (torch.Tensor, GgufWeight):
            return given
        plain = type(given) is torch.Tensor
        same = plain and given.dtype == own.dtype and given.stride() == own.stride()
        if same and (given.data_ptr() % ALIGNMENT_BYTES == 0 or not self._used_in_place(given)):
            return given
        device = "cpu" if own.is_meta else own.device
        return torch.empty_like(own, device=device, requires_grad=False).copy_(given)

    def _used_in_place(self, weight: torch.Tensor) -> bool:
        on_cpu = torch.device(self.load_device).type == "cpu"
        return on_cpu and self.products_in in (None, weight.dtype)


def _own_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for own in (module._parameters, module._buffers):
        yield from ((name, value) for name, value in own.items() if value is not None)


def _tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()
