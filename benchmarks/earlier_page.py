"""docs/performance.md → the records that it was written from, so that areas can be measured one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .entries import HIGHER, LOWER

_DATE = re.compile(r"Measured on (\d{4}-\d\d-\d\d)")
_SIGNS = {"≤": LOWER, "≥": HIGHER}


@dataclass(slots=True)
class EarlierPage:
    """What a page says.

    Attributes:
        machine: The rows of its table about the machine.
        records: As in a results file, rounded as the page shows them, with the `date` of their area.
    """

    machine: Mapping[str, str] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)


def read_page(text: str) -> EarlierPage:
    """Read a page that page.py wrote.

    Raises:
        ValueError: It is not such a page.
    """
    found = _DATE.search(text)
    if found is None:
        raise ValueError("It does not say when it was measured.")
    page = EarlierPage()
    for heading, part in _sections(text):
        rows = list(_rows(part))
        if heading == "Machine":
            page.machine = {row[0]: row[1] for row in rows}
        elif "### What was compared" in part:
            date = _DATE.search(part) or found
            hows = dict(_explanations(part))
            page.records += [
                {**_record(row, hows), "area": heading.lower(), "date": date[1]} for row in rows
            ]
    return page


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        yield heading.strip(), rest


def _explanations(part: str) -> Iterator[tuple[str, str]]:
    for names, how in re.findall(r"^\* (\*\*.+?\*\*): (.+)$", part, re.MULTILINE):
        for name in names[2:-2].split("**, **"):
            yield name, how


def _rows(part: str) -> Iterator[list[str]]:
    for line in part.splitlines():
        if line.startswith("| ") and not line.startswith("| |"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def _record(row: list[str], hows: Mapping[str, str]) -> dict[str, Any]:
    name, value, goal, met, quartiles, n = row
    number, _, unit = value.partition(" ")
    sign, _, bound = goal.partition(" ")
    return {
        "name": name,
        "value": float(number),
        "unit": "x" if unit == "×" else unit,
        "goal": float(bound) if bound else None,
        "better": _SIGNS.get(sign, LOWER),
        "met": {"yes": True, "**no**": False}.get(met),
        "n": int(n),
        "spread": [float(bound) for bound in quartiles.split(" to ")],
        "how": hows[name],
    }
