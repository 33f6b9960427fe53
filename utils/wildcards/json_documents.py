"""JSON → values. Numbers stay as they are written."""

from __future__ import annotations

import json
from typing import Any

from .errors import WildcardError
from .structured import Scalars, below
from .values import Branch, Part


def read(text: str, scalars: Scalars) -> Part:
    """Return the root of a JSON file.

    Raises:
        WildcardError: It is not well-formed.
    """
    try:
        data = json.loads(
            text,
            parse_float=str,
            parse_int=str,
            parse_constant=str,
            object_pairs_hook=lambda pairs: _mapping(pairs, scalars),
        )
    except json.JSONDecodeError as error:
        raise WildcardError(
            f"line {error.lineno}: it cannot be read as JSON: {error.msg}{_hint(text, error.pos)}"
        ) from error
    except RecursionError as error:
        raise WildcardError("it is nested too deeply to be read as JSON") from error
    return _part(data, scalars, "", 0)


def _hint(text: str, at: int) -> str:
    """Return what people most often have in JSON that JSON does not know, if it stands at a place."""
    around = text[:at].rstrip()[-1:] + text[at:].lstrip()[:1]
    if around in (",]", ",}"):
        return ". The comma before the closing bracket has to go"
    if around.endswith(("/", "#")):
        return ". JSON knows no comments"
    return ""


def _mapping(pairs: list[tuple[str, Any]], scalars: Scalars) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            scalars.remark(f"the key '{key}' is there twice; only the last one counts.", 0)
        data[key] = value
    return data


def _part(data: Any, scalars: Scalars, path: str, depth: int) -> Part:
    scalars.check_depth(depth)
    if isinstance(data, dict) and _as_item(data, scalars) is None:
        return Branch(
            {
                key: _part(value, scalars, below(path, key), depth + 1)
                for key, value in data.items()
            },
            path,
        )
    return scalars.values(_items(data, scalars, depth), path)


def _items(data: Any, scalars: Scalars, depth: int) -> list[tuple[str, float, int]]:
    scalars.check_depth(depth)
    if isinstance(data, dict):
        item = _as_item(data, scalars)
        if item is not None:
            return [(*item, 0)] if item[0] else []
        data = list(data.values())
    if isinstance(data, list):
        return [item for child in data for item in _items(child, scalars, depth + 1)]
    text = _text(data).strip()
    return [(*scalars.weighted(text), 0)] if text else []


def _as_item(data: dict[str, Any], scalars: Scalars) -> tuple[str, float] | None:
    fields = {
        key: _text(value).strip()
        for key, value in data.items()
        if not isinstance(value, (dict, list))
    }
    return scalars.item(fields, 0)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
