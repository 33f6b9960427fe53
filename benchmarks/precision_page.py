"""The table of docs/precision.md, from the figures of docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.conversion.targets import TARGETS
from .earlier_page import read_page

DOCS = Path(__file__).resolve().parent.parent / "docs"
AREA = "precision"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
_SOURCE = "bf16"  # the precision of the file that is converted
_BITS_OF_BF16 = 16
_HEAD = """\
| precision | bits a weight | size of bf16 | reading of bf16 | error |
|---|---|---|---|---|
"""


def main(arguments: Sequence[str]) -> int:
    """Write the table anew; it takes no arguments."""
    page = DOCS / "precision.md"
    records = read_page((DOCS / "performance.md").read_text("utf-8")).records
    page.write_text(with_table(page.read_text("utf-8"), records), "utf-8")
    print(f"Written: {page}")
    return 0


def with_table(page: str, records: Sequence[dict[str, Any]]) -> str:
    """Return a page whose figures are those of the records.

    Raises:
        ValueError: The page has no place for them, or there are none.
    """
    figures = {
        record["name"]: float(record["value"]) for record in records if record["area"] == AREA
    }
    rows = [_row(name, figures) for name in TARGETS if f"{name}: size" in figures]
    if not rows:
        raise ValueError(f"docs/performance.md has no figures of the area '{AREA}'.")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"The page has no line '{BEGIN.strip()}' and '{END.strip()}'.")
    text = f"{BEGIN}{_HEAD}{''.join(rows)}{_left_out(figures)}{END}"
    return pattern.sub(lambda _: text, page)


def _left_out(figures: Mapping[str, float]) -> str:
    """Return a sentence on the precisions that could not be made where the figures come from."""
    absent = [name for name in TARGETS if f"{name}: size" not in figures and name != _SOURCE]
    names = ", ".join(f"`{name}`" for name in absent)
    return (
        f"\nNot measured, for the packages that make them were not there: {names}.\n"
        if names
        else ""
    )


def _row(name: str, figures: Mapping[str, float]) -> str:
    bits = figures[f"{name}: size"]
    cells = (
        f"`{name}`",
        f"{bits:.2f}",
        f"{bits / _BITS_OF_BF16:.2f} ×",
        f"{figures[f'{name}: loading / bf16']:.2f} ×",
        f"{figures[f'{name}: error']:.2f} %",
    )
    return f"| {' | '.join(cells)} |\n"
