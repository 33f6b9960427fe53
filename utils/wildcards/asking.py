"""What a request asks of the wildcard engine, checked before any of it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .dialects import LUNA, Dialect, find_dialect
from .errors import WildcardError
from .preview import MAX_COUNT, MAX_TEXT, Question

MAX_PAGE = 1000
MAX_SEED = 2**64 - 1
_DIRECTORIES = ("yaml_directory", "txt_wildcard_directory")
FIELDS = ("text", "seed", "dialect", "count", "position", *_DIRECTORIES)
_PAGE_FIELDS = ("start", "offset", "limit", *_DIRECTORIES)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the grammar it is in, and the folders that it is about."""

    question: Question
    dialect: Dialect
    directories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskedPage:
    """A page of a library's index."""

    start: str
    offset: int
    limit: int
    directories: tuple[str, ...]


def read_question(body: bytes) -> Asked:
    """Return what `{text, seed, dialect, count, …}` asks.

    Raises:
        WildcardError: It is something else, or asks for too much.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WildcardError(f"The request is no JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise WildcardError("The request is no JSON object.", f"Send {', '.join(FIELDS)}.")
    _check_names(fields, FIELDS)
    text = _text(fields, "text", None)
    if len(text) > MAX_TEXT:
        raise WildcardError(
            f"The text has {len(text)} characters; up to {MAX_TEXT} are looked at here."
        )
    question = Question(
        text,
        _number(fields, "seed", 0, (-MAX_SEED, MAX_SEED)),
        _number(fields, "count", 1, (1, MAX_COUNT)),
        None if fields.get("position") is None else _number(fields, "position", 0, (0, MAX_SEED)),
    )
    return Asked(question, find_dialect(_text(fields, "dialect", LUNA.name)), _folders(fields))


def read_page(query: Mapping[str, str]) -> AskedPage:
    """Return what `?start=…&offset=…&limit=…` asks.

    Raises:
        WildcardError: It is something else.
    """
    _check_names(query, _PAGE_FIELDS)
    numbers = {name: _written_number(query, name) for name in ("offset", "limit") if name in query}
    return AskedPage(
        query.get("start", ""),
        _number(numbers, "offset", 0, (0, 2**53)),
        _number(numbers, "limit", 100, (1, MAX_PAGE)),
        _folders(query),
    )


def _check_names(fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise WildcardError(f"There is no field '{unknown[0]}'.", f"There are {', '.join(known)}.")


def _folders(fields: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(_text(fields, name, "") for name in _DIRECTORIES)


def _text(fields: Mapping[str, Any], name: str, default: str | None) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise WildcardError(f"'{name}' has to be a text.")
    return value


def _number(fields: Mapping[str, Any], name: str, default: int, bounds: tuple[int, int]) -> int:
    value = fields.get(name, default)
    low, high = bounds
    if type(value) is not int or not low <= value <= high:
        raise WildcardError(f"'{name}' has to be a whole number from {low} to {high}.")
    return value


def _written_number(query: Mapping[str, str], name: str) -> int:
    written = query[name]
    if not (written.isascii() and written.isdecimal() and len(written) <= 20):
        raise WildcardError(f"'{name}' has to be a whole number of 0 or more.")
    return int(written)
