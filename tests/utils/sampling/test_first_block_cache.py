from __future__ import annotations

import pytest
import torch
from luna_collection.utils.sampling.first_block_cache import CacheSettings, FirstBlockCache

ONES = torch.ones(2, 3)


def full(cache: FirstBlockCache, noise: float, residual: torch.Tensor, kind: object = "a") -> bool:
    """Make one call; the other blocks add 5."""
    if cache.may_skip(kind, noise, residual):
        assert torch.equal(cache.skipped(kind, residual), residual + 5)
        return False
    cache.keep(kind, residual, residual + 5)
    return True


def calls(cache: FirstBlockCache, *steps: tuple[float, float]) -> list[bool]:
    return [full(cache, noise, ONES * value) for noise, value in steps]


def test_close_residuals_are_skipped_and_compared_with_the_last_full_call():
    cache = FirstBlockCache(CacheSettings(threshold=0.1))
    steps = [(9, 1.0), (8, 1.05), (7, 1.09), (6, 1.11), (5, 1.2), (4, 1.23)]
    assert calls(cache, *steps) == [True, False, False, True, False, True]
    assert (cache.hits, cache.full) == (3, 3)


def test_hits_in_a_row_are_bounded():
    cache = FirstBlockCache(CacheSettings(threshold=0.1, max_hits=2))
    steps = [(9.0 - number, 1.0) for number in range(7)]
    assert calls(cache, *steps) == [True, False, False, True, False, False, True]


@pytest.mark.parametrize("change", ["noise", "kind", "shape", "reset"])
def test_another_run_shape_or_condition_begins_anew(change):
    cache = FirstBlockCache(CacheSettings(threshold=0.1))
    assert full(cache, 5.0, ONES)
    if change == "reset":
        cache.reset()
    noise = 6.0 if change == "noise" else 4.0
    residual = torch.ones(3, 3) if change == "shape" else ONES
    assert full(cache, noise, residual, "b" if change == "kind" else "a")
    assert not full(cache, noise - 1, residual, "b" if change == "kind" else "a")


def test_series_take_turns():
    cache = FirstBlockCache(CacheSettings(threshold=0.1))
    ran = [full(cache, noise, ONES, kind) for noise in (9.0, 8.0) for kind in "ab"]
    assert ran == [True, True, False, False]


def test_without_what_the_blocks_added_nothing_is_skipped():
    cache = FirstBlockCache(CacheSettings(threshold=0.1))
    assert not cache.may_skip("a", 9.0, ONES)
    assert not cache.may_skip("a", 8.0, ONES)
    cache.keep("a", ONES, torch.ones(4))  # of another shape: not to be added
    assert not cache.may_skip("a", 7.0, ONES)


@pytest.mark.parametrize(
    "settings",
    [
        CacheSettings(0.0),
        CacheSettings(-1.0),
        CacheSettings(0.1, max_hits=0),
        CacheSettings(0.1, start=0.5, end=0.5),
    ],
)
def test_settings_that_let_nothing_be_skipped(settings):
    assert not settings.can_work
    assert CacheSettings(0.1).can_work


def test_values_that_are_no_numbers_are_not_close():
    cache = FirstBlockCache(CacheSettings(threshold=0.5))
    assert calls(cache, (9, float("nan")), (8, float("nan"))) == [True, True]
