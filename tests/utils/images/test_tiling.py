from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.images.tiling import (
    Scale,
    Tile,
    TilePlan,
    plan_tiles,
    run_tiled,
    tile_weights,
)


@st.composite
def plans(draw: st.DrawFn) -> tuple[TilePlan, int]:
    tile = draw(st.integers(1, 12))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    return plan_tiles(height, width, tile, draw(st.integers(0, tile - 1))), tile


@settings(deadline=None)  # the first call pays for torch's start
@given(plans())
def test_every_cell_is_covered_by_tiles_of_the_asked_size(case: tuple[TilePlan, int]) -> None:
    plan, side = case
    covered = torch.zeros(plan.height, plan.width, dtype=torch.int64)
    for tile in plan.tiles:
        assert (tile.height, tile.width) == (min(side, plan.height), min(side, plan.width))
        assert 0 <= tile.top <= plan.height - tile.height
        assert 0 <= tile.left <= plan.width - tile.width
        covered[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert int(covered.min()) >= 1


@given(plans())
def test_neighbours_share_at_least_the_overlap(case: tuple[TilePlan, int]) -> None:
    plan, _ = case
    for starts, size in (
        (sorted({tile.top for tile in plan.tiles}), plan.tiles[0].height),
        (sorted({tile.left for tile in plan.tiles}), plan.tiles[0].width),
    ):
        for first, second in pairwise(starts):
            assert first < second <= first + size - plan.overlap


@settings(deadline=None)  # the first call pays for torch's start
@given(plans(), st.integers(1, 3))
def test_normalised_weights_sum_to_one(case: tuple[TilePlan, int], scale: int) -> None:
    plan, _ = case
    blended = run_tiled(
        torch.ones(1, 1, plan.height, plan.width),
        plan,
        lambda tile: tile.repeat_interleave(scale, -1).repeat_interleave(scale, -2),
        Scale(1, scale),
    )
    assert blended.shape == (1, 1, plan.height * scale, plan.width * scale)
    torch.testing.assert_close(blended, torch.ones_like(blended), rtol=0, atol=1e-6)
    for tile in plan.tiles:
        weights = tile_weights(plan, tile, scale)
        assert float(weights.min()) > 0
        assert float(weights.max()) <= 1


@settings(deadline=None)  # the first call pays for torch's start
@given(plans(), st.integers(0, 2**32))
def test_identity_gives_back_its_input(case: tuple[TilePlan, int], seed: int) -> None:
    plan, _ = case
    source = torch.randn(2, 3, plan.height, plan.width, generator=torch.manual_seed(seed))
    before = source.clone()
    torch.testing.assert_close(run_tiled(source, plan, lambda t: t), source, rtol=1e-5, atol=1e-6)
    assert torch.equal(source, before)


def test_scales_serve_both_directions_of_a_vae() -> None:
    plan = plan_tiles(13, 21, 8, 3)
    image = torch.rand(1, 2, 13 * 4, 21 * 4)

    shrunk = run_tiled(image, plan, lambda t: torch.nn.functional.avg_pool2d(t, 4), Scale(4, 1))
    grown = run_tiled(
        shrunk, plan, lambda t: torch.nn.functional.interpolate(t, scale_factor=4), Scale(1, 4)
    )

    whole = torch.nn.functional.avg_pool2d(image, 4)
    torch.testing.assert_close(shrunk, whole)
    torch.testing.assert_close(grown, torch.nn.functional.interpolate(whole, scale_factor=4))


def test_the_last_tile_is_moved_inwards() -> None:
    assert plan_tiles(5, 9, 5, 2).tiles == (Tile(0, 0, 5, 5), Tile(0, 3, 5, 5), Tile(0, 4, 5, 5))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (8, 8), (1, 8)])
def test_a_canvas_that_fits_is_one_tile_and_bit_equal(height: int, width: int) -> None:
    plan = plan_tiles(height, width, 8, 4)
    assert plan.tiles == (Tile(0, 0, height, width),)
    source = torch.randn(1, 1, height, width)
    assert torch.equal(run_tiled(source, plan, lambda t: t / 3), source / 3)


def test_what_one_tile_covers_is_bit_equal() -> None:
    source = torch.randn(1, 1, 16, 16)
    blended = run_tiled(source, plan_tiles(16, 16, 10, 4), lambda t: t / 3)
    assert torch.equal(blended[..., :6, :6], source[..., :6, :6] / 3)


def test_no_feather_at_the_borders_of_the_canvas() -> None:
    plan = plan_tiles(8, 14, 8, 2)
    weights = tile_weights(plan, plan.tiles[0])
    assert torch.equal(weights[0], torch.tensor([1, 1, 1, 1, 1, 1, 0.75, 0.25]))
    assert torch.equal(weights, weights[:1].expand(8, 8))


def test_without_overlap_there_is_no_feather() -> None:
    plan = plan_tiles(8, 8, 4, 0)
    assert len(plan.tiles) == 4
    assert all(torch.equal(tile_weights(plan, t), torch.ones(4, 4)) for t in plan.tiles)


def test_half_precision_is_blended_in_float32() -> None:
    source = torch.full((1, 1, 4, 9), 0.1, dtype=torch.float16)
    blended = run_tiled(source, plan_tiles(4, 9, 4, 3), lambda t: t)
    assert blended.dtype == torch.float32
    torch.testing.assert_close(blended, source.float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("tile", "overlap"), [(4, 4), (4, 5), (4, -1), (0, 0)], ids=["equal", "over", "minus", "none"]
)
def test_an_overlap_that_leaves_no_step_is_refused(tile: int, overlap: int) -> None:
    with pytest.raises(InputError, match=f"Tiles of {tile} cells cannot overlap by {overlap}"):
        plan_tiles(8, 8, tile, overlap)


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4)])
def test_an_empty_canvas_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="cannot be cut"):
        plan_tiles(*size, 4, 1)


@pytest.mark.parametrize("width", [4, 10], ids=["one tile", "four tiles"])
def test_progress_is_told_before_every_tile_and_after_the_last(width: int) -> None:
    plan = plan_tiles(4, width, 4, 2)
    steps: list[tuple[int, int]] = []
    run_tiled(torch.zeros(1, 1, 4, width), plan, lambda t: t, on_tile=lambda *s: steps.append(s))
    total = len(plan.tiles)
    assert steps == [(done, total) for done in range(total + 1)]


def test_an_error_of_the_callback_stops_between_tiles() -> None:
    ran: list[int] = []

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiled(
            torch.zeros(1, 1, 4, 10), plan_tiles(4, 10, 4, 2), lambda t: (ran.append(1), t)[1],
            on_tile=stop,
        )  # fmt: skip
    assert ran == [1]
