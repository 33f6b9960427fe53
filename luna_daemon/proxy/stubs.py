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
    stock = getattr(base, method)

    def stub(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        skeleton = skeleton_of(self)
        if skeleton.is_local:
            return stock(self, *args, **kwargs)
        try:
            skeleton.check_own(self)
            remote = decide(self)
            if remote is not None:
                return remote(*args, **kwargs)
        except EditNotSharedError as error:
            skeleton.go_local(error)
        return stock.__get__(self)(*args, **kwargs)

    return _named_like(stub, stock)


def placement_methods(base: type) -> dict[str, Stub]:
    """Return what moves a model: to other devices it need not move, to other types it cannot."""

    def to(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        dtype = torch._C._nn._parse_to(*args, **kwargs)[1]
        skeleton = skeleton_of(self)
        if dtype is not None and not skeleton.is_local:
            skeleton.go_local(
                EditNotSharedError(f"A node turned {skeleton.title} into {dtype} as a whole.")
            )
        if skeleton.is_local:
            base.to(self, *args, **kwargs)  # type: ignore[attr-defined]
        return self

    def on(device: str) -> Stub:
        def move(self: torch.nn.Module, *args: Any) -> torch.nn.Module:
            if skeleton_of(self).is_local:
                getattr(base, device)(self, *args)
            return self

        return move

    return {"to": to, "cpu": on("cpu"), "cuda": on("cuda")}


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


def _named_like(stub: Stub, stock: Any) -> Stub:
    stub.__name__ = stock.__name__
    stub.__qualname__ = stock.__qualname__
    stub.__doc__ = stock.__doc__
    return stub
