"""The method: two things that are compared take turns, so that whatever disturbs the machine hits both.

Each pair runs both sides once, in an order that changes from pair to pair, and gives one ratio of their
costs. The result is the median of the ratios. Pairs are added until the quartiles lie close together or
enough have been taken. Knows nothing of clocks or of what runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Side = Callable[[], float]  # runs one side once and returns what it cost


@dataclass(frozen=True, slots=True)
class PairPlan:
    """How many pairs to take.

    Attributes:
        least: So many at least.
        most: So many at most.
        steady: Enough when the quartiles are no further apart than this part of the median.
    """

    least: int = 15
    most: int = 60
    steady: float = 0.10

    def is_enough(self, ratios: Sequence[float]) -> bool:
        """Have enough pairs been taken?"""
        if len(ratios) < self.least:
            return False
        low, median, high = quartiles(ratios)
        return len(ratios) >= self.most or high - low <= self.steady * median


@dataclass(frozen=True, slots=True)
class Result:
    """The median of `n` values and their first and third quartile."""

    value: float
    spread: tuple[float, float]
    n: int


def compare(
    first: Side,
    second: Side,
    plan: PairPlan | None = None,
    on_pair: Callable[[Result], None] = lambda result: None,
) -> Result:
    """Return the cost of `first` in units of the cost of `second`.

    Each side runs once before anything counts.

    Args:
        first: Runs and returns its cost, in any unit.
        second: Runs and returns its cost, in the same unit.
        plan: How many pairs; default: 15 to 60.
        on_pair: Told what has been found so far, after each pair.

    Raises:
        ValueError: `second` cost nothing: its clock is too coarse for it.
    """
    plan = plan or PairPlan()
    first(), second()
    ratios: list[float] = []
    while not plan.is_enough(ratios):
        ratios.append(_ratio(first, second, swapped=len(ratios) % 2 == 1))
        on_pair(summarize(ratios))
    return summarize(ratios)


def summarize(values: Sequence[float]) -> Result:
    """Return median and quartiles of values."""
    low, median, high = quartiles(values)
    return Result(median, (low, high), len(values))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third quartile of at least one value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that at least `percent` % of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _ratio(first: Side, second: Side, *, swapped: bool) -> float:
    if swapped:
        divisor = second()
        cost = first()
    else:
        cost = first()
        divisor = second()
    if divisor <= 0:
        raise ValueError("A side of a comparison cost nothing; give it more work for each sample.")
    return cost / divisor
