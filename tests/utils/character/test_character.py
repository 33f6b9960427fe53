from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.character.expression_names import Preset, names_of
from luna_collection.utils.character.expression_prompts import (
    Family,
    Portrait,
    Subject,
    file_name,
    negative_for,
    prompt_for,
    read_grid,
)
from luna_collection.utils.character.sheets import Grid, cut, file_names
from luna_collection.utils.errors import InputError


def test_lists_of_names():
    sizes = {Preset.SILLYTAVERN: 29, Preset.EXTENDED: 47, Preset.POSES: 20}
    for preset, size in sizes.items():
        assert len(set(names_of(preset))) == size
    assert "neutral" in names_of(Preset.SILLYTAVERN)
    assert names_of(Preset.CUSTOM, " a \n\nb") == ("a", "b")
    with pytest.raises(InputError, match="empty"):
        names_of(Preset.CUSTOM, "\n")


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("subject", list(Subject))
def test_a_prompt_says_everything(family, subject):
    portrait = Portrait("red hair, {grid} shirt", "joy", "Ann", "rim light", (3, 2))
    prompt = prompt_for(portrait, family, subject)
    for part in ("red hair, {grid} shirt", "joy", "rim light"):
        assert part in prompt
    assert ("3x2" in prompt) == (subject is Subject.SHEET)
    assert negative_for(subject, "hat, ").endswith(", hat")
    with pytest.raises(InputError, match="not described"):
        prompt_for(Portrait(" , "), family, subject)


def test_grids():
    assert read_grid(" 4 x 10") == (4, 10)
    for wrong in ("4", "0x4", "4x11", "axb"):
        with pytest.raises(InputError, match="no grid"):
            read_grid(wrong)


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_file_name_stays_in_its_folder(name, expression):
    made = file_name(name, expression)
    assert made
    assert made == made.lower()
    assert not set(made) & set('<>:"/\\|?*% \n\0')
    assert made not in (".", "..", "con", "nul")
    assert made == made.strip(". ")


def test_file_names():
    assert file_name("Ann Lee", "Joy") == "ann_lee_joy"
    assert file_name("CON") == "_con"
    assert file_names(["Joy", "joy", "a/b", "joy"]) == ["joy", "joy_2", "a_b", "joy_3"]


@given(
    sheets=st.integers(1, 3),
    width=st.integers(20, 200),
    height=st.integers(20, 200),
    columns=st.integers(1, 5),
    rows=st.integers(1, 5),
    padding=st.integers(0, 1),
    names=st.integers(0, 80),
)
def test_cells_are_equal_lie_in_the_sheet_and_do_not_touch(
    sheets, width, height, columns, rows, padding, names
):
    listed = [str(number) for number in range(names)]
    cells = cut((sheets, height, width), Grid(columns, rows, padding), listed)
    assert [cell.name for cell in cells] == listed[: sheets * columns * rows]
    taken = set()
    for cell in cells:
        assert (cell.right - cell.left, cell.bottom - cell.top) == (
            width // columns - 2 * padding,
            height // rows - 2 * padding,
        )
        assert 0 <= cell.left < cell.right <= width
        assert 0 <= cell.top < cell.bottom <= height
        assert 0 <= cell.sheet < sheets
        taken.add((cell.sheet, cell.left, cell.top))
    assert len(taken) == len(cells)


def test_a_padding_that_leaves_nothing_is_an_error():
    with pytest.raises(InputError, match="10x10 pixels; a padding of 5"):
        cut((1, 20, 20), Grid(2, 2, 5), ["a"])
