"""How long it takes to count 10**12 outcomes."""

from __future__ import annotations

from collections.abc import Iterator

from ...utils.wildcards import Library, count, expand
from ..entries import LOWER, Bench, Entry
from ..pairs import summarize
from .libraries import make_library
from .rates import cost_of

OUTCOMES = 10**12
SAMPLES, SAMPLES_QUICK = 15, 5
GOAL_MS = 10.0
TEXTS = {
    "choices": " ".join(["{a|b|c|d|e|f|g|h|i|j}"] * 12),
    "three lists of 10 000": "__flat0__ __flat1__ __flat2__",
    "two of a list of 10 000, and choices": "{2$$__flat0__} " + "{a|b|c|d|e|f|g|h|i|j}" * 4,
}


def measure(bench: Bench) -> Iterator[Entry]:
    """Count, again and again."""
    library = Library([make_library(bench.folder)])
    for name, text in TEXTS.items():
        expand(text, 0, library)
        if count(text, library) not in (OUTCOMES, OUTCOMES // 10**4 * 9999):
            raise ValueError(f"'{text}' has {count(text, library)} outcomes.")
        cost = cost_of(lambda text=text: count(text, library))  # type: ignore[misc]
        samples = SAMPLES_QUICK if bench.quick else SAMPLES
        result = summarize([cost() * 1000 for _ in range(samples)])
        yield Entry(
            name=f"counting 10^12 outcomes: {name}",
            value=result.value,
            unit="ms",
            goal=GOAL_MS,
            better=LOWER,
            n=result.n,
            spread=result.spread,
            how="CPU time of `count`, with the files in memory.",
        )
