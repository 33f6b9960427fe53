"""Which values a run has: all combinations in order, side by side, or in an order of chance."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ..errors import InputError
from .parameters import Parameter, SweepValue

_ROUNDS = 6


class SweepMode(str, Enum):
    """How values are combined."""

    COMBINATORIAL = "combinatorial"
    CYCLICAL = "cyclical"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run.

    Attributes:
        values: By their names.
        index: Its number, from 0.
        total: How many runs there are.
    """

    values: dict[str, SweepValue]
    index: int
    total: int

    @property
    def complete(self) -> bool:
        """It is the last."""
        return self.index == self.total - 1

    @property
    def label(self) -> str:
        """The values as a text for file names and grids."""
        return ", ".join(f"{name}={_shown(value)}" for name, value in self.values.items())


def run_of(
    parameters: Sequence[Parameter], mode: SweepMode, index: int, count: int = 0, seed: int = 0
) -> SweepRun:
    """Return a run by its number; behind the last comes the first again.

    Args:
        parameters: The last one changes with every run, the first one least often.
        mode: combinatorial: every value with every other. cyclical: the first values together, then the
            second ones, and so on; a short list begins anew. random: combinations by chance, none twice
            before all were there.
        index: The run's number.
        count: How many runs; 0: all there are.
        seed: For random.
    """
    lengths = [len(parameter.values) for parameter in parameters]
    if count < 0:
        raise InputError(f"{count} runs are not possible.", "Write 0 for all.")
    combinations = math.prod(lengths)
    available = max(lengths) if mode is SweepMode.CYCLICAL else combinations
    total = count or available
    number = index % total
    if mode is SweepMode.CYCLICAL:
        places = [number % length for length in lengths]
    else:
        place = number % combinations
        if mode is SweepMode.RANDOM:
            place = shuffled(place, combinations, f"{seed}/{number // combinations}")
        places = _places(place, lengths)
    pairs = zip(parameters, places, strict=True)
    return SweepRun({each.name: each.values[place] for each, place in pairs}, number, total)


def shuffled(place: int, size: int, key: str) -> int:
    """Return the number that stands at a place when those below `size` are shuffled.

    Nothing is stored, so that runs over very many combinations can begin anywhere: a Feistel network
    shuffles the next power of four, and what falls outside goes through it again.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    while True:
        left, right = divmod(place, 1 << half)
        for turn in range(_ROUNDS):
            digest = hashlib.sha256(f"{key}/{turn}/{right}".encode()).digest()
            left, right = right, left ^ (int.from_bytes(digest, "big") & ((1 << half) - 1))
        place = left << half | right
        if place < size:
            return place


def _places(number: int, lengths: Sequence[int]) -> list[int]:
    places = []
    for length in reversed(lengths):
        number, place = divmod(number, length)
        places.append(place)
    return places[::-1]


def _shown(value: SweepValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
