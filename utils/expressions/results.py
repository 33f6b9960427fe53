"""A computed value as each of the types that sockets have."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import InputError
from .values import Value, kind_of, shown

TYPES = ("int", "float", "boolean", "string")


class NoSuchTypeError(InputError):
    """A value has no form of the wanted type."""


def results(named: Mapping[str, Value]) -> dict[str, int | float | bool | str | NoSuchTypeError]:
    """Return a value for each type; where there is none, the error for whoever asks for it.

    Args:
        named: What an expression named, and under "" its last value. What it named `int`, `float`, `boolean`
            or `string` counts for that type, the last value for the others.
    """
    return {kind: _tried(kind, named.get(kind, named.get(""))) for kind in TYPES}


def _tried(kind: str, value: Value) -> int | float | bool | str | NoSuchTypeError:
    try:
        return as_type(kind, value)
    except NoSuchTypeError as error:
        return error


def as_type(kind: str, value: Value) -> int | float | bool | str:
    """Return a value as one of `TYPES`. A fraction becomes a whole number by rounding, halves to even.

    Raises:
        NoSuchTypeError: It has no such form.
    """
    if kind == "string":
        return shown(value)
    if kind == "boolean":
        return bool(value)
    why = "is no number"
    try:
        if isinstance(value, int) and kind == "int":
            return int(value)
        if isinstance(value, (int, float, str)):
            number = value if isinstance(value, int) else float(value)
            if math.isfinite(number):
                return round(number) if kind == "int" else float(number)
    except ValueError:
        pass  # said below
    except OverflowError:
        why = "is too large"
    raise NoSuchTypeError(
        f"The result, {kind_of(value)} '{shown(value)[:60]}', {why}, so there is nothing for the output '{kind}'.",
        "Connect another output, or make a number of it in the expression.",
    )
