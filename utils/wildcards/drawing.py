"""Drawing by chance, from `random.Random.random()` alone.

That method gives the same numbers for the same seed on every platform and in every version of Python;
`choices`, `sample` and `randint` are not promised to.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence

SEEDS = 2**64  # that a node can have
_EXACT = 2**50  # up to here, one draw of 53 bits is fine enough


def generator(seed: int) -> random.Random:
    """Return the generator of a seed. Negative seeds are seeds of their own."""
    return random.Random(seed if seed >= 0 else (1 << 64) - seed)


def seed_after(seed: int, number: int) -> int:
    """Return the seed that is so many further on. Those of nodes end at 2^64 - 1, and begin again at 0."""
    return (seed + number) % SEEDS if 0 <= seed < SEEDS else seed + number


def below(rng: random.Random, count: int) -> int:
    """Return an integer from 0 to below `count`."""
    if count <= _EXACT:
        return int(rng.random() * count)
    value = 0
    for _ in range(count.bit_length() // 50 + 2):
        value = value << 50 | int(rng.random() * _EXACT)
    return value % count


def weighted(rng: random.Random, cumulative: Sequence[float]) -> int:
    """Return an index, by weights that are added up."""
    return min(bisect_right(cumulative, rng.random() * cumulative[-1]), len(cumulative) - 1)


def several(
    rng: random.Random, count: int, weights: Sequence[float] | None, size: int
) -> list[int]:
    """Return `count` different indexes below `size`, in the order in which they were drawn."""
    if weights is None:
        moved: dict[int, int] = {}  # the start of a shuffle that is never written out
        drawn = []
        for last in range(size - 1, size - 1 - count, -1):
            at = below(rng, last + 1)
            drawn.append(moved.get(at, at))
            moved[at] = moved.get(last, last)
        return drawn
    left = [index for index in range(size) if weights[index] > 0]
    drawn = []
    while left and len(drawn) < count:
        share = rng.random() * sum(weights[index] for index in left)
        position = 0
        while position < len(left) - 1 and share >= weights[left[position]]:
            share -= weights[left[position]]
            position += 1
        drawn.append(left.pop(position))
    return drawn
