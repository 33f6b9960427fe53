"""Every example of docs/wildcards.md, in the folder that the page itself describes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from luna_collection.utils.wildcards import (
    DIALECTS,
    LUNA,
    Library,
    batch,
    count,
    enumerate_outcomes,
    expand,
    probabilities,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "wildcards.md"
FILE = re.compile(r"^`([\w/]+\.\w+)`\n\n```\w*\n(.*?)```$", re.MULTILINE | re.DOTALL)
OUTCOME = re.compile(r"``|`([^`]*)`")


def rows() -> list[tuple[str, str, str]]:
    """Return (text, dialect, outcomes) of every cell that is an example."""
    found: list[tuple[str, str, str]] = []
    columns: list[str] = []
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] if line[:1] == "|" else []
        if cells and cells[0] == "text":
            columns = cells
        elif cells and cells[0].startswith("`"):
            text = unwritten(cells[0].strip("`"))
            for column, cell in zip(columns, cells, strict=True):
                if column == "can become" or column in DIALECTS:
                    found.append((text, column if column in DIALECTS else LUNA.name, cell))
    return found


def unwritten(text: str) -> str:
    return text.replace("\\|", "|").replace("⏎", "\n")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("wildcards")
    for name, content in FILE.findall(PAGE.read_text("utf-8")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, "utf-8")
    return Library([folder])


def test_the_page_has_examples_and_files():
    assert len(rows()) > 180
    assert len(FILE.findall(PAGE.read_text("utf-8"))) == 12


@pytest.mark.parametrize(("text", "name", "cell"), rows(), ids=lambda value: value[:40])
def test_example(library, text, name, cell):
    dialect = DIALECTS[name]
    shown = [unwritten(match.group(1) or "") for match in OUTCOME.finditer(cell)]
    possible = set(probabilities(text, library, dialect))
    if cell.startswith("in turn"):
        assert [item.text for item in batch(text, 5, len(shown), library, dialect)] == shown
    elif "` …" in cell:
        assert set(shown) <= possible
        assert len(possible) == int(cell.rpartition(" ")[2])
    else:
        assert possible == set(shown)
    drawn = batch(text, 0, 40, library, dialect)
    assert {item.text for item in drawn} <= possible
    assert any(item.warnings for item in drawn) == ("warns" in cell)
    listed = list(enumerate_outcomes(text, library, dialect))
    assert len(listed) == count(text, library, dialect)
    assert set(listed) == possible
    assert expand(text, 39, library, dialect, position=39) == drawn[39]
