"""The functions that expressions may call. None of them reaches anything outside its arguments."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

from ..seeded_draw import SeededDraw
from .errors import BadValueError
from .values import MAX_BITS, MAX_ITEMS, Value, check_length, number, shown, text, whole

CONSTANTS: dict[str, Value] = {
    "pi": math.pi,
    "tau": math.tau,
    "e": math.e,
    "true": True,
    "false": False,
    "none": None,
}


def functions(draw: SeededDraw) -> dict[str, Callable[..., Value]]:
    """Return all functions by name; those that draw take from `draw`, one after the other."""

    def rand(low: Value = 0.0, high: Value = 1.0) -> Value:
        return lerp(low, high, draw.fraction())

    def randint(low: Value, high: Value) -> Value:
        first, last = sorted((whole(low), whole(high)))
        return first + int(draw.fraction() * (last - first + 1))

    def pick(*items: Value) -> Value:
        choices = _items(items)
        return choices[int(draw.fraction() * len(choices))]

    return {**_FIXED, "rand": rand, "randint": randint, "pick": pick}


def power(base: Value, exponent: Value) -> Value:
    """Return a power, if it is not too large to be computed."""
    low, high = number(base), number(exponent)
    if isinstance(low, int) and isinstance(high, int) and abs(low) > 1:
        if high > 0 and low.bit_length() * high > MAX_BITS:
            raise BadValueError(f"{low} ** {high} is too large")
        if high < -MAX_BITS:
            return 0.0
    result = low**high
    if isinstance(result, complex):
        raise BadValueError("a negative number has no such root")
    return result


def lerp(low: Value, high: Value, share: Value) -> Value:
    """Return what lies between two numbers: the first for 0, the second for 1."""
    first, last, part = float(number(low)), float(number(high)), number(share)
    return first * (1 - part) + last * part


def clamp(value: Value, low: Value, high: Value) -> Value:
    """Return the number, or the nearest within bounds."""
    first, last = sorted((number(low), number(high)))
    return min(max(number(value), first), last)


def ceil_to(value: Value, step: Value) -> Value:
    """Return the next multiple from a number on upwards."""
    return _multiple(value, step, math.ceil)


def floor_to(value: Value, step: Value) -> Value:
    """Return the next multiple from a number on downwards."""
    return _multiple(value, step, math.floor)


def round_to(value: Value, step: Value) -> Value:
    """Return the nearest multiple; of two, the larger."""
    return _multiple(value, step, lambda count: math.floor(count + 0.5))


def choose(index: Value, *items: Value) -> Value:
    """Return an item by its number, from 0; behind the last comes the first again."""
    choices = _items(items)
    return choices[whole(index) % len(choices)]


def join(items: Value, between: Value = ", ") -> Value:
    """Return a list's items as one text."""
    if not isinstance(items, tuple):
        raise BadValueError("join needs a list")
    pieces = [shown(item) for item in items]
    check_length(sum(map(len, pieces)) + len(text(between)) * len(pieces))
    return text(between).join(pieces)


def split(value: Value, between: Value = ",") -> Value:
    """Return the parts of a text, without blanks around them."""
    if not text(between):
        raise BadValueError("split needs something to split at")
    return tuple(part.strip() for part in text(value).split(text(between), MAX_ITEMS))


def replace(value: Value, old: Value, new: Value) -> Value:
    """Return a text with all places of another replaced."""
    places = text(value).count(text(old))
    check_length(len(text(value)) + places * (len(text(new)) - len(text(old))))
    return text(value).replace(text(old), text(new))


def pad(value: Value, width: Value) -> Value:
    """Return a whole number with zeros before it."""
    check_length(whole(width))
    return str(whole(value)).zfill(whole(width))


def _multiple(value: Value, step: Value, rounded: Callable[[float], int]) -> Value:
    distance = number(step)
    if distance <= 0:
        raise BadValueError(f"multiples of {distance} are not possible", "Use a step above 0.")
    given = number(value)
    if isinstance(given, int) and isinstance(distance, int):  # exact, however large
        below = given // distance * distance
        rest = given - below
        up = rounded(rest / distance) if rest else 0
        return below + up * distance
    count = given / distance
    if given and not count:  # too small for a float: a little more than nothing, or a little less
        count = math.copysign(sys.float_info.min, given)
    return rounded(count) * distance


def _items(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return the arguments, or the items of a list that is the only one."""
    if len(items) == 1 and isinstance(items[0], tuple):
        items = items[0]
    if not items:
        raise BadValueError("there is nothing to choose from")
    return items


def _numbers(items: tuple[Value, ...]) -> list[int | float]:
    return [number(item) for item in _items(items)]


def _of_float(function: Callable[[float], float]) -> Callable[[Value], Value]:
    return lambda value: function(float(number(value)))


def _of_text(function: Callable[[str], str]) -> Callable[[Value], Value]:
    return lambda value: function(text(value))


def _round(value: Value, digits: Value = 0) -> Value:
    places = whole(digits)
    if not -300 <= places <= 300:
        raise BadValueError(f"{places} is no number of digits")
    return round(number(value)) if places == 0 else round(number(value), places)


def _int(value: Value) -> Value:
    if not isinstance(value, str):
        return int(number(value))
    is_fraction = any(mark in value for mark in ".eE")
    return int(float(value)) if is_fraction else int(value)


def _float(value: Value) -> Value:
    return float(value) if isinstance(value, str) else float(number(value))


def _len(value: Value) -> Value:
    if isinstance(value, (str, tuple)):
        return len(value)
    raise BadValueError("len needs a text or a list")


def _log(value: Value, base: Value = math.e) -> Value:
    return math.log(number(value), number(base))


_FIXED: dict[str, Callable[..., Value]] = {
    "abs": lambda value: abs(number(value)),
    "bool": bool,
    "ceil": lambda value: math.ceil(number(value)),
    "ceil_to": ceil_to,
    "choose": choose,
    "clamp": clamp,
    "contains": lambda value, part: text(part) in text(value),
    "cos": _of_float(math.cos),
    "exp": _of_float(math.exp),
    "float": _float,
    "floor": lambda value: math.floor(number(value)),
    "floor_to": floor_to,
    "gcd": lambda first, second: math.gcd(whole(first), whole(second)),
    "int": _int,
    "join": join,
    "len": _len,
    "lerp": lerp,
    "log": _log,
    "lower": _of_text(str.lower),
    "max": lambda *items: max(_numbers(items)),
    "min": lambda *items: min(_numbers(items)),
    "pad": pad,
    "pow": power,
    "replace": replace,
    "round": _round,
    "round_to": round_to,
    "sign": lambda value: (number(value) > 0) - (number(value) < 0),
    "sin": _of_float(math.sin),
    "split": split,
    "sqrt": _of_float(math.sqrt),
    "str": shown,
    "strip": _of_text(str.strip),
    "sum": lambda *items: sum(_numbers(items)),
    "tan": _of_float(math.tan),
    "title": _of_text(str.title),
    "upper": _of_text(str.upper),
}
FUNCTION_NAMES = (*_FIXED, "rand", "randint", "pick")
