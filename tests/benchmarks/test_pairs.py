from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import pytest
from luna_collection.benchmarks.pairs import (
    PairPlan,
    compare,
    percentile,
    quartiles,
    summarize,
)


def sides(costs: dict[str, Iterator[float]]) -> tuple[dict[str, Callable[[], float]], list[str]]:
    """Sides that cost what is given, and the order in which they ran."""
    order: list[str] = []

    def side(name: str) -> Callable[[], float]:
        def run() -> float:
            order.append(name)
            return next(costs[name])

        return run

    return {name: side(name) for name in costs}, order


def always(value: float) -> Iterator[float]:
    while True:
        yield value


def test_the_order_changes_from_pair_to_pair_after_one_run_each_that_does_not_count():
    both, order = sides({"A": always(3.0), "B": always(2.0)})
    result = compare(both["A"], both["B"], PairPlan(least=4, most=4))
    assert "".join(order) == "AB" + "AB" + "BA" + "AB" + "BA"
    assert (result.value, result.spread, result.n) == (1.5, (1.5, 1.5), 4)


def test_first_runs_do_not_count():
    both, _ = sides({"A": iter([100.0, 1.0, 1.0]), "B": iter([1.0, 1.0, 1.0])})
    assert compare(both["A"], both["B"], PairPlan(least=2, most=2)).value == 1.0


def test_a_load_that_changes_between_pairs_does_not_show():
    load = [1.0, 8.0, 2.0, 5.0, 1.0, 3.0]
    both, _ = sides({"A": (2 * x for x in load), "B": (x for x in load)})
    result = compare(both["A"], both["B"], PairPlan(least=5, most=5))
    assert (result.value, result.spread) == (2.0, (2.0, 2.0))


def test_steady_ratios_end_after_the_least_pairs():
    both, _ = sides({"A": always(1.0), "B": always(1.0)})
    assert compare(both["A"], both["B"]).n == 15


def test_wide_ratios_go_on_to_the_most_pairs():
    def wide() -> Iterator[float]:
        while True:
            yield from (1.0, 3.0)

    both, _ = sides({"A": wide(), "B": always(1.0)})
    assert compare(both["A"], both["B"], PairPlan(least=3, most=12)).n == 12


def test_pairs_are_added_until_the_quartiles_are_close():
    def calming() -> Iterator[float]:
        yield from (1.0, 1.0, 2.0, 1.0)  # the first does not count
        yield from always(1.0)

    both, _ = sides({"A": calming(), "B": always(1.0)})
    result = compare(both["A"], both["B"], PairPlan(least=3, most=60))
    assert 3 < result.n < 60
    low, high = result.spread
    assert high - low <= 0.10 * result.value


def test_whoever_watches_is_told_after_each_pair():
    both, _ = sides({"A": always(1.0), "B": always(4.0)})
    seen = []
    compare(both["A"], both["B"], PairPlan(least=3, most=3), seen.append)
    assert [(result.n, result.value) for result in seen] == [(1, 0.25), (2, 0.25), (3, 0.25)]


def test_a_side_that_costs_nothing_is_an_error():
    both, _ = sides({"A": always(1.0), "B": always(0.0)})
    with pytest.raises(ValueError, match="cost nothing"):
        compare(both["A"], both["B"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], (7.0, 7.0, 7.0)),
        ([1.0, 2.0], (1.25, 1.5, 1.75)),
        ([4.0, 1.0, 3.0, 2.0, 5.0], (2.0, 3.0, 4.0)),
    ],
)
def test_quartiles(values, expected):
    assert quartiles(values) == expected
    assert summarize(values).value == statistics.median(values)


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 1.0), (50, 50.0), (95, 95.0), (99, 99.0), (100, 100.0)]
)
def test_a_percentile_is_a_value_that_occurred(percent, expected):
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


def test_the_median_of_one_value_is_that_value():
    assert percentile([3.0], 50) == percentile([3.0], 99) == 3.0
