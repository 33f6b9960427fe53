"""Notices edits of a skeleton's module tree, which cannot reach the weights in the daemon.

A picture of every module's attributes is taken when the skeleton is made; before each call it is compared
with what is there now. Nearly everything compares by identity, so this takes a few milliseconds. The object
around the tree, such as a comfy.sd.VAE, has a picture of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch

from .remote_weights import reference_of

_CHILDREN = "_modules"
_CONTAINERS = (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Edit:
    """One attribute of one module that is not what it was.

    Attributes:
        path: The module's dotted path from the root; "" is the root.
        name: The attribute; for a replaced child, the child's name.
        is_child: Whether a child module was replaced or removed.
    """

    path: str
    name: str
    is_child: bool = False

    def __str__(self) -> str:
        return ".".join(part for part in (self.path, self.name) if part)


@dataclass(slots=True)
class _Record:
    path: str
    module: torch.nn.Module
    cls: type
    attributes: dict[str, Any]


class Snapshot:
    """What a module tree looked like.

    Args:
        root: The tree's root.
        is_free: Tells, for (path, attribute), what may change as it likes.
        noticed: Attributes that ComfyUI's code asks for although no class has them.
    """

    def __init__(
        self,
        root: torch.nn.Module,
        is_free: Callable[[str, str], bool],
        noticed: frozenset[str] = frozenset(),
    ) -> None:
        self._is_free = is_free
        self._noticed = noticed
        self._records = [
            _Record(path, module, type(module), _copied(vars(module)))
            for path, module in root.named_modules()
        ]
        # Tensors with values of their own can be written into without a trace in any attribute.
        self._values = [
            (path, tensor, tensor.detach().clone())
            for path, tensor in (*root.named_parameters(), *root.named_buffers())
            if not (tensor.is_meta or reference_of(tensor))
        ]

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """The modules of the tree as it was, by path."""
        return {record.path: record.module for record in self._records}

    def renew(self, module: torch.nn.Module) -> None:
        """Take one module as it is now."""
        for record in self._records:
            if record.module is module:
                record.attributes = _copied(vars(module))

    def edits(self) -> list[Edit]:
        """Return what has changed and can matter to what the model computes."""
        with torch._C.DisableTorchFunctionSubclass():  # comparing weights is no use of their values
            return self._edits()

    def _edits(self) -> list[Edit]:
        found = []
        for record in self._records:
            if type(record.module) is not record.cls:
                found.append(Edit(record.path, "__class__"))
            if not _equal(vars(record.module), record.attributes):
                found.extend(self._changes(record))
        for path, tensor, before in self._values:
            if not torch.equal(tensor, before):
                parent, _, name = path.rpartition(".")
                found.append(Edit(parent, name))
        return found

    def _changes(self, record: _Record) -> Iterator[Edit]:
        now, before = vars(record.module), record.attributes
        for name in now.keys() | before.keys():
            if self._is_free(record.path, name):
                continue
            value, old = now.get(name, _MISSING), before.get(name, _MISSING)
            if name == _CHILDREN:
                yield from _changed_children(record)
            elif old is _MISSING:
                if name in self._noticed or not _is_harmless_addition(record.module, name, value):
                    yield Edit(record.path, name)
            elif not _equal(value, old) and not (name == "training" and value is False):
                yield Edit(record.path, name)


class ObjectPicture:
    """What an object's own attributes were, such as a VAE's scaling.

    Args:
        thing: The object.
        is_free: Tells which attributes may change as they like.
    """

    def __init__(self, thing: object, is_free: Callable[[str], bool]) -> None:
        self._is_free = is_free
        self._attributes = _copied(self._seen(thing))

    def is_like(self, thing: object) -> bool:
        """Tell whether an object, this one or a copy of it, has the same attributes now."""
        now = self._seen(thing)
        return now.keys() == self._attributes.keys() and all(
            _is_same(now[name], value) for name, value in self._attributes.items()
        )

    def _seen(self, thing: object) -> dict[str, Any]:
        return {name: value for name, value in vars(thing).items() if not self._is_free(name)}


def _is_same(value: Any, other: Any) -> bool:
    return value is other or (type(value) is type(other) and _equal(value, other))


def _changed_children(record: _Record) -> Iterator[Edit]:
    now, before = vars(record.module)[_CHILDREN], record.attributes[_CHILDREN]
    for name in now.keys() | before.keys():
        # A new child is only called by code that knows of it, unless all children are called in turn.
        is_unused = name not in before and not isinstance(record.module, _CONTAINERS)
        if now.get(name) is not before.get(name) and not is_unused:
            yield Edit(record.path, name, is_child=True)


def _is_harmless_addition(module: torch.nn.Module, name: str, value: Any) -> bool:
    """Tell whether a new attribute hides nothing, or hides a method or value by the very same one."""
    of_class = getattr(type(module), name, _MISSING)
    if of_class is _MISSING:
        return True
    if type(value) in (bool, list, type(None)):  # model patchers write such at layers
        return type(of_class) is type(value) and _equal(value, of_class)
    return isinstance(value, MethodType) and value.__self__ is module and value.__func__ is of_class


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return set(value) if isinstance(value, set) else value


def _equal(value: Any, other: Any) -> bool:
    try:
        return value is other or bool(value == other)
    except (RuntimeError, TypeError, ValueError):  # tensors and arrays that are not the same object
        return False
