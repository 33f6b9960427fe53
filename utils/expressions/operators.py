"""What the signs of expressions do: with numbers, and with texts and lists where it makes sense."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from .errors import BadValueError
from .functions import power
from .values import Value, check_length, kind_of, number, whole


def part(of: Value, place: Value) -> Value:
    """Return a part of a text or list: `a[0]`, `a[1:3]`.

    Args:
        of: The whole.
        place: A number from 0, or a slice.

    Raises:
        BadValueError: There is no such part.
    """
    if not isinstance(of, (str, tuple)):
        raise BadValueError(f"{kind_of(of)} has no parts")
    if isinstance(place, slice):
        bounds = (place.start, place.stop, place.step)
        start, stop, step = (None if bound is None else whole(bound) for bound in bounds)
        if step == 0:
            raise BadValueError("a step of 0 leads nowhere")
        return of[start:stop:step]
    index = whole(place)
    if not -len(of) <= index < len(of):
        raise BadValueError(f"there is no part {index}: it has {len(of)}, counted from 0")
    return of[index]


def _sum(left: Value, right: Value) -> Value:
    if isinstance(left, str) and isinstance(right, str):
        check_length(len(left) + len(right))
        return left + right
    if isinstance(left, tuple) and isinstance(right, tuple):
        return left + right
    if isinstance(left, str) or isinstance(right, str):
        raise BadValueError(
            f"{kind_of(left)} and {kind_of(right)} cannot be added",
            "Write str(…) around the number to join texts, or float(…) around the text to add numbers.",
        )
    return number(left) + number(right)


def _product(left: Value, right: Value) -> Value:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str):
            check_length(len(value) * max(0, whole(times)))
            return value * whole(times)
    return number(left) * number(right)


def _is_in(left: Value, right: Value) -> bool:
    if isinstance(right, str) and not isinstance(left, str):
        raise BadValueError(f"{kind_of(left)} cannot be in a text", "Write str(…) around it.")
    if not isinstance(right, (str, tuple)):
        raise BadValueError(f"nothing can be in {kind_of(right)}")
    return left in right


def _identity(left: Value, right: Value) -> Value:
    raise BadValueError("this comparison cannot be used", "Write == or !=.")


def _numeric(compute: Callable[..., Any]) -> Callable[..., Value]:
    return lambda *operands: compute(*map(number, operands))


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Value, Value], bool]:
    def ordered(left: Value, right: Value) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return compare(left, right)
        if isinstance(left, str) or isinstance(right, str):
            raise BadValueError(f"{kind_of(left)} and {kind_of(right)} have no order")
        return compare(number(left), number(right))

    return ordered


OPERATORS: dict[type[ast.AST], Callable[..., Value]] = {
    ast.Add: _sum,
    ast.Sub: _numeric(operator.sub),
    ast.Mult: _product,
    ast.Div: _numeric(operator.truediv),
    ast.FloorDiv: _numeric(operator.floordiv),
    ast.Mod: _numeric(operator.mod),
    ast.Pow: power,
    ast.UAdd: _numeric(operator.pos),
    ast.USub: _numeric(operator.neg),
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: _ordered(operator.lt),
    ast.LtE: _ordered(operator.le),
    ast.Gt: _ordered(operator.gt),
    ast.GtE: _ordered(operator.ge),
    ast.In: _is_in,
    ast.NotIn: lambda left, right: not _is_in(left, right),
    ast.Is: _identity,
    ast.IsNot: _identity,
}
# What to write for what is not in the table, or cannot be used for other reasons.
INSTEAD: dict[type[ast.AST], str] = {
    ast.BitXor: "Write ** for a power.",
    ast.BitAnd: "Write 'and'.",
    ast.BitOr: "Write 'or'.",
    ast.Invert: "Write 'not'.",
    ast.keyword: "Arguments stand one after the other, without names.",
    ast.Starred: "Write the items one after the other, without a star.",
}
