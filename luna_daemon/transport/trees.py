"""Nested Python values with tensors in them ⇄ JSON and a list of tensors.

What ComfyUI's methods take and return: tokens, options, conditioning. The JSON keeps what JSON has no
word for: tuples, keys of any kind, numbers that are not finite, element types and devices. Lists and
tuples stay apart since ComfyUI tells them apart. Nothing but plain values comes out of it.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch

from ..errors import BadRequestError

PutTensor = Callable[[torch.Tensor], Any]
_ELEMENT_TYPES = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype)
}


def dump_tree(value: Any) -> tuple[msgspec.Raw, list[torch.Tensor]]:
    """Return a value as JSON, and its tensors in the order of their numbers in it.

    Raises:
        BadRequestError: Something in it cannot be sent.
    """
    tensors: list[torch.Tensor] = []

    def put(tensor: torch.Tensor) -> Any:
        tensors.append(tensor)
        return {"x": len(tensors) - 1}

    return dump_with(value, put), tensors


def dump_with(value: Any, put: PutTensor) -> msgspec.Raw:
    """Return a value as JSON; `put` says what stands for a tensor in it: an object with one key."""
    return msgspec.Raw(msgspec.json.encode(_plain(value, put)))


def load_tree(raw: msgspec.Raw, tensors: Sequence[torch.Tensor]) -> Any:
    """Return the value that `dump_tree` was given.

    Raises:
        BadRequestError: It refers to a tensor that is not there, or is no such JSON.
    """

    def get(kind: str, content: Any) -> torch.Tensor:
        if kind == "x" and isinstance(content, int) and 0 <= content < len(tensors):
            return tensors[content]
        raise BadRequestError("A value refers to a tensor that did not come with it.")

    return load_with(raw, get)


def load_with(raw: msgspec.Raw, get: Callable[[str, Any], Any]) -> Any:
    """Return a value; `get` is asked for every object whose key is not one of this module's."""
    try:
        return _value(msgspec.json.decode(raw), get)
    except (msgspec.DecodeError, RecursionError, TypeError, ValueError, RuntimeError) as error:
        raise BadRequestError(f"A value cannot be understood: {error}.") from error


def _plain(value: Any, put: PutTensor) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else {"f": str(number)}
    if isinstance(value, torch.Tensor):
        return put(value)
    if isinstance(value, tuple):
        return {"t": [_plain(item, put) for item in value]}
    if isinstance(value, list):
        return [_plain(item, put) for item in value]
    if isinstance(value, dict):
        return {"d": [[_plain(key, put), _plain(item, put)] for key, item in value.items()]}
    if isinstance(value, torch.dtype):
        return {"y": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"v": str(value)}
    kind = type(value)
    raise BadRequestError(
        f"A value of the type {kind.__module__}.{kind.__qualname__} cannot be sent to the daemon."
    )


def _value(plain: Any, get: Callable[[str, Any], Any]) -> Any:
    if isinstance(plain, list):
        return [_value(item, get) for item in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind == "t":
        return tuple(_value(item, get) for item in content)
    if kind == "d":
        return {_value(key, get): _value(item, get) for key, item in content}
    if kind == "f":
        return float(content)
    if kind == "y":
        return _element_type(content)
    if kind == "v":
        return torch.device(content)
    return get(kind, content)


def _element_type(name: Any) -> torch.dtype:
    if name not in _ELEMENT_TYPES:
        raise BadRequestError(f"There is no element type '{str(name)[:40]}'.")
    return _ELEMENT_TYPES[name]
