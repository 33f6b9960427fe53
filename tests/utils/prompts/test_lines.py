from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.prompts.lines import (
    ChosenLine,
    LineChoice,
    LineRange,
    choose_line,
    joined,
    lines_of,
)

LINES = list("abcdef")


def test_lines_that_count():
    assert lines_of("  one \n\n# no\n two\n#") == ["one", "two"]


@pytest.mark.parametrize(
    ("number", "within", "line"),
    [
        (0, LineRange(), ChosenLine("a", 0, 6)),
        (7, LineRange(), ChosenLine("b", 1, 6)),
        (0, LineRange(2), ChosenLine("c", 2, 4)),
        (2, LineRange(1, 6, 2), ChosenLine("f", 5, 3)),
        (1, LineRange(4, 99), ChosenLine("f", 5, 2)),
    ],
)
def test_lines_in_their_order(number, within, line):
    assert choose_line(LINES, LineChoice.SEQUENTIAL, number, within, "f") == line


@given(seed=st.integers(0, 2**64 - 1), start=st.integers(0, 5), step=st.integers(1, 3))
def test_a_seed_decides(seed, start, step):
    within = LineRange(start, -1, step)
    line = choose_line(LINES, LineChoice.RANDOM, seed, within, "f")
    assert line == choose_line(LINES, LineChoice.RANDOM, seed, within, "f")
    assert line.text in LINES[start::step]
    assert LINES[line.index] == line.text


def test_every_line_is_drawn_about_as_often():
    drawn = [choose_line(LINES, LineChoice.RANDOM, seed, LineRange(), "f") for seed in range(3000)]
    counts = [sum(line.text == text for line in drawn) for text in LINES]
    assert sum((count - 500) ** 2 / 500 for count in counts) < 25  # chi-square, 5 degrees


@pytest.mark.parametrize("within", [LineRange(6), LineRange(3, 3), LineRange(4, 2)])
def test_a_range_without_lines_is_an_error(within):
    with pytest.raises(InputError, match="'f' has 6 lines"):
        choose_line(LINES, LineChoice.SEQUENTIAL, 0, within, "f")


def test_joining():
    assert joined("a", "b", ", ", before=True) == "b, a"
    assert joined("a", "b", " ", before=False) == "a b"
    assert joined("a", " ", ", ", before=False) == "a"
