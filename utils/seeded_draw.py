"""Random choices that a seed decides, the same on every platform and in every Python.

Only `random.Random.random` is used, which Python promises never to change; `randrange`, `sample` and
`shuffle` have changed before. Each thing that is drawn for has a stream of its own, so that switching
one of them off changes nothing about the others.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal

from .errors import InputError


def seed_of(number: int) -> int:
    """Return a number as a seed; -1 stands for one by chance, which a page can show exactly."""
    return random.SystemRandom().getrandbits(53) if number == -1 else number


@dataclass(frozen=True, slots=True)
class Steps:
    """Numbers from `low` to at most `high`, `step` apart. Bounds in the wrong order are swapped."""

    low: float
    high: float
    step: float

    def __post_init__(self) -> None:
        if not self.step > 0:
            raise InputError(
                f"The precision {self.step} is not above 0.", "Use a precision such as 0.1."
            )


class SeededDraw:
    """One stream of random numbers.

    Args:
        seed: Any number; 0 is one like all others.
        stream: What is drawn for, such as a slot's number.
    """

    def __init__(self, seed: int, stream: str) -> None:
        # A text is hashed with SHA-512 on its way to the generator's state: neighbours share nothing.
        self._random = random.Random(f"{seed}/{stream}")

    def fraction(self) -> float:
        """Return a number of [0, 1)."""
        return self._random.random()

    def happens(self, chance: float) -> bool:
        """Tell whether something with this chance, 0 to 1, takes place."""
        return self.fraction() < chance

    def number(self, steps: Steps) -> float:
        """Return one of the steps, all equally likely."""
        # Decimal: 0.1 three times is 0.3, and no platform rounds otherwise.
        low, high = sorted((Decimal(str(steps.low)), Decimal(str(steps.high))))
        step = Decimal(str(steps.step))
        count = int((high - low) / step) + 1
        return float(low + int(self.fraction() * count) * step)
