"""What became of a node: judged from its run on ComfyUI's objects and its run on the daemon's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

EQUAL = "equal"
FAILS_ALIKE = "fails on both"
NOT_RUN = "not run"
SENTENCE = "refused in a sentence"
UNSTEADY = "unsteady"
DIFFERENT = "DIFFERENT"
BROKEN = "BROKEN"
ENDED = "ENDED"
# In the order of the table; the last three are failures.
ALL = (EQUAL, SENTENCE, FAILS_ALIKE, UNSTEADY, NOT_RUN, DIFFERENT, BROKEN, ENDED)
FAILURES = (DIFFERENT, BROKEN, ENDED)
MEANINGS = {
    EQUAL: "same values, types and layouts in memory as on ComfyUI's own objects",
    SENTENCE: "one clear sentence that names the reason and the remedy",
    FAILS_ALIKE: "the node does not run on ComfyUI's own objects either, with what it is given here",
    UNSTEADY: "two runs on ComfyUI's own objects differ from each other",
    NOT_RUN: "something that the node requires is not to be had here",
    DIFFERENT: "other results than on ComfyUI's own objects, without a word",
    BROKEN: "an error of another kind, or an error only on one side",
    ENDED: "the process died or did not come to an end",
}


@dataclass(frozen=True)
class Run:
    """One run of a graph.

    Attributes:
        values: What came out, as plain data; of no meaning when there was an error.
        error: What was raised, with its type; "" when nothing was.
        is_sentence: The error is one of ours, made for the person at the screen.
    """

    values: Any = None
    error: str = ""
    is_sentence: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a case, and why."""

    kind: str
    detail: str = ""


def judge(
    stock: Run, ours: Run, again: Callable[[], Run], difference: Callable[[Any, Any], str]
) -> Verdict:
    """Judge a pair of runs.

    Args:
        stock: On ComfyUI's own objects.
        ours: On the daemon's.
        again: Runs once more on ComfyUI's own objects.
        difference: Says where two values differ; "" when nowhere.
    """
    if stock.error:
        return _judge_failed(stock, ours, again)
    if ours.is_sentence:
        return Verdict(SENTENCE, ours.error)
    if ours.error:
        return Verdict(BROKEN, ours.error)
    where = difference(ours.values, stock.values)
    if not where:
        return Verdict(EQUAL)
    other = again()
    if other.error or difference(other.values, stock.values):
        return Verdict(UNSTEADY, where)
    return Verdict(DIFFERENT, where)


def _judge_failed(stock: Run, ours: Run, again: Callable[[], Run]) -> Verdict:
    if ours.error:
        return Verdict(FAILS_ALIKE, stock.error)
    if again().error:
        return Verdict(BROKEN, f"only ComfyUI's own object fails: {stock.error}")
    return Verdict(UNSTEADY, stock.error)


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Return how many there are of each kind, in the table's order."""
    found = [verdict.kind for verdict in verdicts]
    return {kind: found.count(kind) for kind in ALL}
