"""Sheets of equal cells, cut into pictures with a name each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .expression_prompts import file_name


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of a sheet.

    Attributes:
        sheet: Which sheet of the batch, from 0.
        left: Of the part, in pixels; with `top`, `right` and `bottom` the box.
        name: What it shows.
    """

    sheet: int
    left: int
    top: int
    right: int
    bottom: int
    name: str


@dataclass(frozen=True, slots=True)
class Grid:
    """How a sheet is divided; `padding` is cut off each side of a cell, in pixels."""

    columns: int
    rows: int
    padding: int = 0


def cut(size: tuple[int, int, int], grid: Grid, names: Sequence[str]) -> tuple[Cell, ...]:
    """Return the cells row by row, sheet by sheet, as many as there are names.

    Args:
        size: (sheets, height, width).
        grid: How each is divided. Pixels that are left over at the right and at the bottom are left out.
        names: For the cells, in their order.

    Raises:
        InputError: Nothing is left of a cell.
    """
    sheets, height, width = size
    wide, high = width // grid.columns, height // grid.rows
    if min(wide, high) <= 2 * grid.padding:
        raise InputError(
            f"A cell of a {width}x{height} sheet has {wide}x{high} pixels; a padding of {grid.padding} leaves nothing.",
            "Use fewer columns or rows, or a smaller padding.",
        )
    each = grid.columns * grid.rows
    cells = []
    for number, name in zip(range(sheets * each), names, strict=False):
        row, column = divmod(number % each, grid.columns)
        left, top = column * wide, row * high
        cells.append(
            Cell(
                number // each,
                left + grid.padding,
                top + grid.padding,
                left + wide - grid.padding,
                top + high - grid.padding,
                name,
            )
        )
    return tuple(cells)


def file_names(names: Sequence[str]) -> list[str]:
    """Return a file's name without ending for each; the second of a kind gets _2."""
    taken: set[str] = set()
    found = []
    for name in names:
        plain = unique = file_name(name)
        number = 1
        while unique in taken:
            number += 1
            unique = f"{plain}_{number}"
        taken.add(unique)
        found.append(unique)
    return found
