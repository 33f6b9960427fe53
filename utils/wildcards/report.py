"""What is said about how a text came about: as JSON for programs, as lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from .dialects import Dialect
from .engine import Expansion
from .errors import Remark

MAX_SHOWN = 20  # warnings under a text; the rest is counted


def as_data(expansion: Expansion, dialect: Dialect) -> dict[str, Any]:
    """Return everything about an outcome in a form that JSON has."""
    return {
        "text": expansion.text,
        "seed": expansion.seed,
        "position": expansion.position,
        "dialect": dialect.name,
        "picks": [pick._asdict() for pick in expansion.picks],
        "warnings": [str(warning) for warning in expansion.warnings],
    }


def as_json(expansion: Expansion, dialect: Dialect) -> str:
    """Return the same as text."""
    return json.dumps(as_data(expansion, dialect), ensure_ascii=False, indent=2)


def shown(texts: Sequence[str], warnings: Iterable[str]) -> str:
    """Return what a node shows: the texts, and what was noticed."""
    said = list(dict.fromkeys(warnings))
    lines = list(texts)
    if said:
        lines += ["", "Warnings:", *(f"  {warning}" for warning in said[:MAX_SHOWN])]
    if len(said) > MAX_SHOWN:
        lines.append(f"  … and {len(said) - MAX_SHOWN} more")
    return "\n".join(lines)


def all_warnings(expansions: Iterable[Expansion], more: Iterable[Remark] = ()) -> list[str]:
    """Return what was noticed in several outcomes, each warning once."""
    found = [warning for expansion in expansions for warning in expansion.warnings]
    return list(dict.fromkeys(map(str, [*found, *more])))
