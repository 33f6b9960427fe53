"""Texts with expressions in braces: `{name}`, `{a.width * 2}`, `{cfg:.1f}`. `{{` and `}}` are braces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import InputError
from .errors import BadValueError
from .evaluating import evaluate
from .values import Value, check_length, shown

# What may stand behind the colon: Python's form without anything that could fill the memory.
_FORM = re.compile(r"[<>^]?[+\- ]?0?\d{0,3},?(?:\.\d{1,2})?[bdeEfgGosxX%]?")
MAX_PLACES = 500


class _Place(NamedTuple):
    """Braces in a text."""

    start: int
    end: int
    expression: str
    form: str


def format_text(template: str, values: Mapping[str, Value], seed: int = 0) -> str:
    """Return the text with its braces filled in.

    Raises:
        InputError: Braces do not match, an expression cannot be computed, or a form does not fit.
    """
    pieces: list[str] = []
    length = place = count = 0
    while place < len(template):
        mark = template[place : place + 2]
        if mark in ("{{", "}}"):
            piece, place = mark[0], place + 2
        elif mark[:1] == "{":
            count += 1
            found = _at(template, place)
            piece, place = _filled(template, found, values, seed + count), found.end
        elif mark[:1] == "}":
            raise _wrong(template, place, "this brace closes nothing", "Write }} for a brace.")
        else:
            stop = min((i for i in (template.find(b, place) for b in "{}") if i >= 0), default=-1)
            end = len(template) if stop < 0 else stop
            piece, place = template[place:end], end
        length += len(piece)
        if count > MAX_PLACES:
            raise InputError(f"The text has more than {MAX_PLACES} places to fill.", "Split it.")
        _check(template, place, length)
        pieces.append(piece)
    return "".join(pieces)


def _at(template: str, start: int) -> _Place:
    """Find the end of braces; those in quotes or brackets of the expression do not count."""
    depth, quote, colon = 0, "", -1
    for place in range(start + 1, len(template)):
        letter = template[place]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "([":
            depth += 1
        elif letter in ")]":
            depth -= 1
        elif letter == ":" and depth == 0 and colon < 0:
            colon = place
        elif letter == "}":
            middle = place if colon < 0 else colon
            form = "" if colon < 0 else template[colon + 1 : place]
            return _Place(start, place + 1, template[start + 1 : middle], form)
    raise _wrong(template, start, "this brace is not closed", "Write {{ for a brace.")


def _filled(template: str, found: _Place, values: Mapping[str, Value], seed: int) -> str:
    value = evaluate(found.expression.strip(), values, seed)[""]
    if not found.form:
        return shown(value)
    if not _FORM.fullmatch(found.form) or not isinstance(value, (int, float, str)):
        raise _wrong(
            template,
            found.start,
            f"the form '{found.form}' cannot be used",
            "Write {a:.2f} for two digits, {a:05d} for zeros before a number.",
        )
    try:
        return format(value, found.form)
    except (ValueError, OverflowError) as error:
        raise _wrong(
            template,
            found.start,
            f"the form '{found.form}' does not fit: {str(error).rstrip('.')}",
            "",
        ) from error


def _check(template: str, place: int, length: int) -> None:
    try:
        check_length(length)
    except BadValueError as error:
        raise _wrong(template, place, error.why, "") from error


def _wrong(template: str, place: int, why: str, hint: str) -> InputError:
    line = template.count("\n", 0, place) + 1
    near = template[place : place + 30].partition("\n")[0]
    return InputError(f"Line {line} of the text, at '{near}': {why}.", hint)
