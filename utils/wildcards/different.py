"""Outcomes that all differ, as far as a text has enough of them."""

from __future__ import annotations

from .dialects import LUNA, Dialect
from .drawing import seed_after
from .engine import NO_LIBRARY, Expansion, Roller
from .errors import Remark
from .library import Library

ATTEMPTS = 20  # for one outcome
SPARE = 200  # attempts that a batch has beside as many as it has outcomes


def different(
    text: str,
    seed: int,
    count: int,
    library: Library = NO_LIBRARY,
    dialect: Dialect = LUNA,
) -> tuple[list[Expansion], tuple[Remark, ...]]:
    """Return up to `count` outcomes of which no two are the same text, and a remark when there are fewer.

    Outcome i is that of the seed `seed` + i and the position i; where another was the same already, that
    of `count`, 2 · `count`, … further on. So no two outcomes ever try the same seed, and each says with
    which seed and position it can be made again on its own.

    Raises:
        WildcardError: The text is nested too deeply, or grows too long.
    """
    roller = Roller(text, library, dialect)
    found: dict[str, Expansion] = {}
    left = count + SPARE  # or a text with one outcome would be expanded count · ATTEMPTS times
    for item in range(count):
        for attempt in range(ATTEMPTS):
            if left == 0:
                break
            left -= 1
            position = item + attempt * count
            expansion = roller.roll(seed_after(seed, position), position)
            if expansion.text not in found:
                found[expansion.text] = expansion
                break
    outcomes = list(found.values())
    if len(outcomes) == count:
        return outcomes, ()
    message = (
        f"only {len(outcomes)} of {count} texts are different from each other: the template has no "
        "more outcomes, or the rest are too improbable. Ask for fewer, or allow repeats."
    )
    return outcomes, (Remark(message),)
