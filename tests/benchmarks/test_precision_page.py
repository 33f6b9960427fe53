from __future__ import annotations

from pathlib import Path

import pytest
from luna_collection.benchmarks.earlier_page import read_page
from luna_collection.benchmarks.precision_page import AREA, BEGIN, END, with_table
from luna_collection.utils.conversion.targets import TARGETS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = f"Words.\n\n{BEGIN}old\n{END}\nMore words.\n"


def record(name: str, value: float) -> dict:
    return {"area": AREA, "name": name, "value": value}


RECORDS = [
    record("fp8_e5m2: size", 8.01),
    record("fp8_e5m2: loading / bf16", 0.5),
    record("fp8_e5m2: error", 5.2),
    {"area": "other", "name": "fp16: size", "value": 3.0},
]


def test_a_precision_that_was_measured_has_a_row_and_the_words_stay():
    page = with_table(PAGE, RECORDS)
    assert "| `fp8_e5m2` | 8.01 | 0.50 × | 0.50 × | 5.20 % |\n" in page
    assert "| `fp16`" not in page
    assert "were not there: `fp16`, " in page
    assert page.startswith("Words.\n\n")
    assert page.endswith("\nMore words.\n")
    assert with_table(page, RECORDS) == page


def test_nothing_is_said_to_be_missing_when_nothing_is():
    figures = ("size", "loading / bf16", "error")
    records = [record(f"{name}: {figure}", 1.0) for name in TARGETS for figure in figures]
    assert "Not measured" not in with_table(PAGE, records)


def test_without_figures_or_a_place_for_them_nothing_is_written():
    with pytest.raises(ValueError, match="has no figures"):
        with_table(PAGE, RECORDS[3:])
    with pytest.raises(ValueError, match="has no line"):
        with_table("Words.", RECORDS)


def test_the_page_has_the_figures_that_were_measured():
    page = (DOCS / "precision.md").read_text("utf-8")
    records = read_page((DOCS / "performance.md").read_text("utf-8")).records
    assert with_table(page, records) == page, "run python benchmarks/precision.py"
