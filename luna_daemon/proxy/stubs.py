"""Methods of single modules that run in the daemon.

They are put on a class of the module's own, derived from its class, and not into the module: packs set,
keep and delete instance attributes of the same names, and code looks up `type(module)`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch

from .class_patches import OWN_CLASS_MARK
from .errors import EditNotSharedError
from .skeleton import ATTRIBUTE, Skeleton, skeleton_of

Stub = Callable[..., Any]
# Decides about a call: None lets ComfyUI's own method run here, otherwise this is called with its arguments.
Decide = Callable[[torch.nn.Module], Callable[..., Any] | None]


def give_own_class(
    module: torch.nn.Module, skeleton: Skeleton, members: Mapping[str, Stub]
) -> None:
    """Replace methods of one module."""
    base = type(module)
    names = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        OWN_CLASS_MARK: True,
    }
    module.__class__ = type(base.__name__, (base,), {**names, **members})
    skeleton.base_classes[module] = base
    vars(module)[ATTRIBUTE] = skeleton


def remote_method(base: type, method: str, decide: Decide) -> Stub:
    """Return a method that runs in the daemon unless `decide` wants ComfyUI's own.

    Where an edit cannot be shared, the policy says whether that is an error, or the model is loaded here.
    """

    def stub(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        skeleton = skeleton_of(self)
        if skeleton.is_local:
            return getattr(base, method)(self, *args, **kwargs)
        try:
            skeleton.check_own(self)
            remote = decide(self)
            if remote is not None:
                return remote(*args, **kwargs)
        except EditNotSharedError as error:
            skeleton.go_local(error)
        # Of the class as it is now: another pack may have replaced it.
        return getattr(base, method)(self, *args, **kwargs)

    return _named_like(stub, getattr(base, method))


def weight_methods(base: type) -> dict[str, Stub]:
    """Return what moves or changes all weights: to other devices they need not move, the rest is an edit."""

    def to(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        _, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        if layout is not None:
            _edited(
                self, f"A node gave {skeleton_of(self).title} another layout in memory ({layout})."
            )
        elif dtype is not None and not _has_only(self, dtype):
            _edited(self, f"A node turned {skeleton_of(self).title} into {dtype} as a whole.")
        if skeleton_of(self).is_local:
            base.to(self, *args, **kwargs)  # type: ignore[attr-defined]
        return self

    def into(dtype: torch.dtype) -> Stub:
        return lambda self: self.to(dtype)

    def load_state_dict(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        _edited(self, f"A node gave other weights to {skeleton_of(self).title}.")
        return base.load_state_dict(self, *args, **kwargs)  # type: ignore[attr-defined]

    def on(device: str) -> Stub:
        def move(self: torch.nn.Module, *args: Any) -> torch.nn.Module:
            if skeleton_of(self).is_local:
                getattr(base, device)(self, *args)
            return self

        return move

    kinds = {
        "half": torch.float16,
        "bfloat16": torch.bfloat16,
        "float": torch.float32,
        "double": torch.float64,
    }
    return {
        "to": to,
        "cpu": on("cpu"),
        "cuda": on("cuda"),
        "load_state_dict": load_state_dict,
        **{name: into(dtype) for name, dtype in kinds.items()},
    }


def copied_module(self: torch.nn.Module, memo: dict[int, Any]) -> torch.nn.Module:
    """`copy.deepcopy` of a module tree: one more skeleton of the same weights."""
    skeleton = skeleton_of(self)
    if not skeleton.is_local:
        try:
            skeleton.check_own(self)
            return skeleton.another().root
        except EditNotSharedError as error:
            skeleton.go_local(error)
    made = copy.copy(self)
    memo[id(self)] = made
    vars(made).update(copy.deepcopy(vars(self), memo))
    return made


def _edited(module: torch.nn.Module, what: str) -> None:
    """Load the model here where the policy allows it, for an edit of all its weights; else raise."""
    skeleton = skeleton_of(module)
    if not skeleton.is_local:
        skeleton.go_local(EditNotSharedError(what))


def _has_only(module: torch.nn.Module, dtype: torch.dtype) -> bool:
    """Tell whether all numbers in a module with a fraction are of this type already."""
    tensors = (*module.parameters(), *module.buffers())
    return all(tensor.dtype == dtype for tensor in tensors if tensor.is_floating_point())


def _named_like(stub: Stub, stock: Any) -> Stub:
    stub.__name__ = stock.__name__
    stub.__qualname__ = stock.__qualname__
    stub.__doc__ = stock.__doc__
    return stub
