"""Every example of docs/wildcards.md, in the folder that the page itself describes."""

from __future__ import annotations

import re

import pytest
from luna_collection.utils.wildcards import (
    DIALECTS,
    Library,
    batch,
    count,
    enumerate_outcomes,
    expand,
    probabilities,
)
from luna_collection.utils.wildcards.lint import lint

from .grammar_page import files, rows, unwritten, write_files

OUTCOME = re.compile(r"``|`([^`]*)`")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("wildcards")
    write_files(folder)
    return Library([folder])


def test_the_page_has_examples_and_files():
    assert len(rows()) > 180
    assert len(files()) == 14


def test_the_linter_names_the_two_files_that_lead_back_to_themselves(library):
    told = [(remark.file, remark.line) for remark in lint(library)]
    assert told == [("circle.txt", 1), ("echo.txt", 2)]


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
