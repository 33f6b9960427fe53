"""Ordered selections: how many ways there are to take k of n things, and which one is the i-th."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .errors import WildcardError

MAX_WORK = 5_000_000  # additions
MAX_BITS = 200_000_000  # of all the numbers that are needed


class Selections:
    """Between `low` and `high` things in order, each at most once.

    Args:
        counts: Of the outcomes that each thing has itself.
        low: How many things at least; more than there are counts as all.
        high: How many at most.
    """

    def __init__(self, counts: Sequence[int], low: int, high: int) -> None:
        self._counts = counts
        self._low, self._high = min(low, len(counts)), min(high, len(counts))
        self._same = counts[0] if counts and len(set(counts)) == 1 else None
        self._check_size()
        self._sums = self._elementary()
        ways, orders = [], math.factorial(self._low)
        for k in range(self._low, self._high + 1):
            ways.append(orders * self._sums[k])
            orders *= k + 1
        self.count = sum(ways)
        self._ways = ways

    def at(self, index: int) -> list[tuple[int, int]]:
        """Return (thing, outcome of the thing) for each that is taken, in order."""
        length = self._low
        for ways in self._ways:
            if index < ways:
                break
            index -= ways
            length += 1
        left = list(range(len(self._counts)))
        sums = self._sums[: length + 1]
        taken = []
        for remaining in range(length, 0, -1):
            position, index, sums = self._first(left, sums, remaining, index)
            rest = math.factorial(remaining - 1) * sums[remaining - 1]
            outcome, index = divmod(index, rest)
            taken.append((left.pop(position), outcome))
        return taken

    def _first(
        self, left: Sequence[int], sums: list[int], remaining: int, index: int
    ) -> tuple[int, int, list[int]]:
        """Return which thing comes first, the index among those that begin with it, and its sums."""
        if self._same is not None:
            without = self._without(sums, self._same, remaining)
            ways = self._same * math.factorial(remaining - 1) * without[remaining - 1]
            position, index = divmod(index, ways)
            return position, index, without
        for position, thing in enumerate(left):
            without = self._without(sums, self._counts[thing], remaining)
            ways = self._counts[thing] * math.factorial(remaining - 1) * without[remaining - 1]
            if index < ways:
                return position, index, without
            index -= ways
        raise IndexError("There are fewer selections.")

    def _check_size(self) -> None:
        """Refuse what would take minutes and gigabytes."""
        largest = max(self._counts, default=1)
        bits = self._high * (len(self._counts).bit_length() + largest.bit_length())
        if bits * (self._high + 1) > MAX_BITS:
            raise self._too_many()

    def _too_many(self) -> WildcardError:
        return WildcardError(
            f"There are too many ways to take {self._high} of {len(self._counts)} values to count them."
        )

    @staticmethod
    def _without(sums: list[int], count: int, remaining: int) -> list[int]:
        """Return the elementary symmetric polynomials when one of the things is gone."""
        without = [1]
        for k in range(1, remaining):
            without.append(sums[k] - count * without[k - 1])
        return without

    def _elementary(self) -> list[int]:
        """Return, for each k, the sum over all sets of k things of the products of their counts."""
        if self._same is not None:
            same = [1]
            for k in range(self._high):  # from one binomial coefficient to the next
                same.append(same[-1] * self._same * (len(self._counts) - k) // (k + 1))
            return same
        if len(self._counts) * self._high > MAX_WORK:
            raise self._too_many()
        sums = [1] + [0] * self._high
        for count in self._counts:
            for k in range(self._high, 0, -1):
                sums[k] += count * sums[k - 1]
        return sums
