"""Work on a large picture tile by tile, and blend the tiles into one.

Planning is arithmetic on a canvas of cells. A cell is whatever a tile may be cut along: a pixel, or
one latent cell with the square of pixels behind it. The same plan therefore serves a VAE in both
directions: `Scale` says how many elements of the source and of the result one cell has per side.

Knows nothing of models: the caller's function turns a source tile into a result tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..errors import InputError


class Tile(NamedTuple):
    """A rectangle of the canvas, in cells."""

    top: int
    left: int
    height: int
    width: int


class Scale(NamedTuple):
    """Elements per cell and side, in the source and in the result: decoding by 8 is (1, 8)."""

    source: int
    result: int


SAME_SCALE = Scale(1, 1)


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Tiles that cover a canvas of `height` x `width` cells, row by row.

    Tiles of neighbouring rows or columns share at least `overlap` cells. All tiles are of one size.
    """

    height: int
    width: int
    overlap: int
    tiles: tuple[Tile, ...]


def plan_tiles(height: int, width: int, tile: int, overlap: int) -> TilePlan:
    """Cover a canvas with square tiles; the last of a row or column is moved inwards to fit.

    A side of the canvas that is not longer than a tile is covered by one tile of that length.

    Args:
        height: Of the canvas, in cells, at least 1.
        width: Of the canvas, in cells, at least 1.
        tile: Side of a tile, in cells, at least 1.
        overlap: What neighbours share at least, in cells: from 0 to `tile` - 1.

    Raises:
        InputError: A value is out of its range.
    """
    if height < 1 or width < 1:
        raise InputError(f"A picture of {height} x {width} cells cannot be cut into tiles.")
    if not 0 <= overlap < tile:
        raise InputError(
            f"Tiles of {tile} cells cannot overlap by {overlap}.",
            "Choose an overlap of at least 0 that is smaller than the tile.",
        )
    tiles = tuple(
        Tile(top, left, min(tile, height), min(tile, width))
        for top in _starts(height, tile, overlap)
        for left in _starts(width, tile, overlap)
    )
    return TilePlan(height, width, overlap, tiles)


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    last = max(length - tile, 0)
    return [*range(0, last, tile - overlap), last]


def tile_weights(plan: TilePlan, tile: Tile, scale: int = 1) -> torch.Tensor:
    """Return how much each element of a tile's result counts before normalising.

    1 inside; towards each side that is not the canvas's border it falls linearly over `plan.overlap`
    cells, and never reaches 0.

    Args:
        plan: The plan that the tile belongs to.
        tile: One of its tiles.
        scale: Elements per cell and side.

    Returns:
        [scale * tile.height, scale * tile.width], float32, in (0, 1].
    """
    ramp = plan.overlap * scale
    rows = _ramps(tile.height * scale, ramp, tile.top > 0, tile.top + tile.height < plan.height)
    columns = _ramps(tile.width * scale, ramp, tile.left > 0, tile.left + tile.width < plan.width)
    return rows[:, None] * columns[None, :]


def _ramps(length: int, ramp: int, at_start: bool, at_end: bool) -> torch.Tensor:
    weights = torch.ones(length)
    rise = (torch.arange(ramp, dtype=torch.float32) + 0.5) / max(ramp, 1)
    if at_start:
        weights[:ramp] *= rise
    if at_end:
        weights[length - ramp :] *= rise.flip(0)
    return weights


def run_tiled(
    source: torch.Tensor,
    plan: TilePlan,
    run: Callable[[torch.Tensor], torch.Tensor],
    scale: Scale = SAME_SCALE,
    on_tile: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Run a function on every tile and blend the results.

    Where a single tile covers the canvas the result is bit for bit what `run` gave for it.

    Args:
        source: [B, C, scale.source * plan.height, scale.source * plan.width], any device.
        plan: The tiles, in cells.
        run: Maps a source tile [B, C, scale.source * h, scale.source * w] to a result tile
            [B, D, scale.result * h, scale.result * w]. It gets a view of `source`.
        scale: Elements per cell and side.
        on_tile: Called with (tiles done, tiles in all) before every tile and after the last.
            What it raises ends the run.

    Returns:
        [B, D, scale.result * plan.height, scale.result * plan.width], float32, on the CPU.

    Memory: one tile on the source's device; one result, and one plane of weights, on the CPU.
    Source: weighted overlap-add (Allen and Rabiner 1977), in two dimensions.
    """
    tell = on_tile or _nobody_listens
    count = len(plan.tiles)
    if count == 1:
        tell(0, 1)
        result = run(source).to("cpu", torch.float32)
        tell(1, 1)
        return result
    canvas: torch.Tensor | None = None
    total = torch.zeros(plan.height * scale.result, plan.width * scale.result)
    for done, tile in enumerate(plan.tiles):
        tell(done, count)
        part = run(source[(..., *_window(tile, scale.source))]).to("cpu", torch.float32)
        if canvas is None:
            canvas = part.new_zeros(*part.shape[:-2], *total.shape)
        weights = tile_weights(plan, tile, scale.result)
        window = _window(tile, scale.result)
        canvas[(..., *window)] += part * weights
        total[window] += weights
    tell(count, count)
    assert canvas is not None, "a plan has at least one tile"
    return canvas.div_(total)


def _nobody_listens(done: int, total: int) -> None:
    pass


def _window(tile: Tile, scale: int) -> tuple[slice, slice]:
    return (
        slice(tile.top * scale, (tile.top + tile.height) * scale),
        slice(tile.left * scale, (tile.left + tile.width) * scale),
    )
