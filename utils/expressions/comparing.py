"""Two values compared: numbers as numbers, texts as texts."""

from __future__ import annotations

from enum import Enum

from ..errors import InputError
from .values import Value, kind_of


class Comparison(str, Enum):
    """How."""

    EQUAL = "a == b"
    UNEQUAL = "a != b"
    LESS = "a < b"
    LESS_OR_EQUAL = "a <= b"
    GREATER = "a > b"
    GREATER_OR_EQUAL = "a >= b"
    CONTAINS = "a contains b"


def compare(
    left: Value, right: Value, how: Comparison, tolerance: float, *, ignore_case: bool
) -> bool:
    """Compare two values.

    Args:
        left: The first.
        right: The second.
        how: The question.
        tolerance: Numbers no further apart are equal.
        ignore_case: Of texts.

    Raises:
        InputError: There is no order between the two.
    """
    if isinstance(left, str) and isinstance(right, str) and ignore_case:
        left, right = left.casefold(), right.casefold()
    if how is Comparison.CONTAINS:
        return _contains(left, right)
    same = _same(left, right, tolerance)
    if how in (Comparison.EQUAL, Comparison.UNEQUAL):
        return same == (how is Comparison.EQUAL)
    less = not same and _less(left, right)
    if how is Comparison.LESS:
        return less
    if how is Comparison.LESS_OR_EQUAL:
        return less or same
    return not less and (how is Comparison.GREATER_OR_EQUAL or not same)


def _same(left: Value, right: Value, tolerance: float) -> bool:
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right or abs(left - right) <= tolerance
    return left == right


def _less(left: Value, right: Value) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left < right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left < right
    raise InputError(
        f"a is {kind_of(left)} and b is {kind_of(right)}: there is no order between them.",
        "Compare two numbers or two texts.",
    )


def _contains(left: Value, right: Value) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return right in left
    if isinstance(left, tuple):
        return right in left
    raise InputError(f"{kind_of(left)} cannot contain {kind_of(right)}.", "Compare two texts.")
