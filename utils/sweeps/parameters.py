"""Lines of `name: values` → named lists of numbers, truth values and texts.

cfg: 4..8:0.5
steps: 20, 30, 40
style: oil, "ink, wash"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn

from ..errors import InputError

MAX_VALUES = 10_000  # of one parameter
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(rf"({_NUMBER}?)\s*\.\.\s*({_NUMBER})(?:\s*:\s*({_NUMBER}))?")
_NEARLY_A_RANGE = re.compile(rf"{_NUMBER}\s*\.\.\s*[^\s.]")
_NAME = re.compile(r"[^\W\d][\w .-]{0,40}")
_QUOTED = re.compile(r"""("|')(?:(?!\1)[^\\]|\\.)*\1""")
_PIECE = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^,]*?)\s*(?:,|$)""")
_EXAMPLE = "A line looks like this: cfg: 4..8:0.5, or like this: style: oil, ink."

SweepValue = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A name, and the values that it goes through."""

    name: str
    values: tuple[SweepValue, ...]


def parse_parameters(text: str) -> tuple[Parameter, ...]:
    """Read the lines; empty ones and those that begin with # do not count.

    Raises:
        InputError: A line cannot be read; the message has its number.
    """
    found: dict[str, Parameter] = {}
    for line, written in enumerate(text.split("\n"), start=1):
        if not written.strip() or written.lstrip().startswith("#"):
            continue
        name, colon, values = written.partition(":")
        name = name.strip()
        if not colon or not _NAME.fullmatch(name):
            _refuse(line, "it does not begin with a name and a colon")
        if name in found:
            _refuse(line, f"'{name}' is there already")
        found[name] = Parameter(name, tuple(_values(values.strip(), line)))
    if not found:
        raise InputError("There are no values to sweep.", _EXAMPLE)
    return tuple(found.values())


def _values(text: str, line: int) -> list[SweepValue]:
    values: list[SweepValue] = []
    place = 0
    while place < len(text):
        match = _PIECE.match(text, place)
        if match is None:
            _refuse(
                line,
                f"a comma is missing behind the text in quotes at '{text[place : place + 20]}'",
            )
        place = match.end()
        values += _read(match.group(1), line)
        if len(values) > MAX_VALUES:
            _refuse(line, f"it has more than {MAX_VALUES} values")
    if not values:
        _refuse(line, "it has no values")
    return values


def _read(piece: str, line: int) -> list[SweepValue]:
    if piece.startswith(('"', "'")):
        if not _QUOTED.fullmatch(piece):
            _refuse(line, f"the quotes of {piece[:20]} do not enclose it")
        return [re.sub(r"\\(.)", r"\1", piece[1:-1])]
    if not piece:
        return []
    interval = _RANGE.fullmatch(piece)
    if interval and interval.group(1):
        first, last, step = interval.groups()
        return _interval(first, last, step, line)
    if _NEARLY_A_RANGE.match(piece):
        _refuse(line, f"'{piece[:20]}' is no range of numbers; as a text it has to stand in quotes")
    if piece.lower() in ("true", "false"):
        return [piece.lower() == "true"]
    if re.fullmatch(_NUMBER, piece) and len(piece) < 40:
        return [_plain(Decimal(piece), "." in piece)]
    return [piece]


def _interval(first: str, last: str, step: str | None, line: int) -> list[SweepValue]:
    """Return the numbers of a range, its end with them; it may also go down."""
    low, high = Decimal(first), Decimal(last)
    distance = abs(Decimal(step)) if step else Decimal(1)
    if distance == 0:
        _refuse(line, "a step of 0 leads nowhere")
    count = int(abs(high - low) / distance) + 1
    if count > MAX_VALUES:
        _refuse(line, f"its range has {count} values; at most {MAX_VALUES} may be")
    distance = distance if high >= low else -distance
    fraction = "." in f"{first.strip('.')}{step or ''}"
    return [_plain(low + number * distance, fraction) for number in range(count)]


def _plain(value: Decimal, fraction: bool) -> int | float:
    return float(value) if fraction else int(value)


def _refuse(line: int, why: str) -> NoReturn:
    raise InputError(f"Line {line} of the parameters: {why}.", _EXAMPLE)
