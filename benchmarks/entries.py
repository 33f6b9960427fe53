"""What a benchmark is, and what comes out of it. Knows nothing of what is measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pairs import PairPlan, Result

LOWER, HIGHER = "lower", "higher"
QUICK = PairPlan(least=5, most=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One number.

    Attributes:
        name: What was measured, unique in its area.
        unit: "x" for a ratio.
        goal: What it should reach; None where it is only reported.
        better: Whether "lower" or "higher" is better.
        n: How many pairs, or single values, it is the median of.
        spread: First and third quartile of those.
        how: What was compared with what, in one sentence.
    """

    name: str
    value: float
    unit: str
    goal: float | None
    better: str
    n: int
    spread: tuple[float, float]
    how: str

    @property
    def met(self) -> bool | None:
        """Is the goal reached? None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.better == LOWER else self.value >= self.goal


@dataclass(frozen=True, slots=True)
class Bench:
    """How thoroughly to measure, and where.

    Attributes:
        folder: For models, sockets and logs; removed after the run.
        quick: Take the fewest samples that still show that everything works.
        full_size: Use models of real size where that takes much memory or time.
        tell: Shows what is going on.
    """

    folder: Path
    quick: bool = False
    full_size: bool = False
    tell: Callable[[str], None] = lambda text: None

    @property
    def plan(self) -> PairPlan:
        """How many pairs a comparison takes."""
        return QUICK if self.quick else PairPlan()

    def tell_pair(self, result: Result) -> None:
        """Show how a comparison goes."""
        low, high = result.spread
        self.tell(f"pair {result.n}: {result.value:.3f} [{low:.3f}, {high:.3f}]")


@dataclass(frozen=True, slots=True)
class Measurement:
    """Something that an area measures in one go.

    Attributes:
        title: What it is called on the command line.
        module: Where it is, in the area's folder; imported only when it is measured.
        function: Takes a `Bench` and gives entries.
        draws: Whether it shows a progress of its own.
    """

    title: str
    module: str
    function: str = "measure"
    draws: bool = False


def ratio_entry(name: str, result: Result, goal: float | None, better: str, how: str) -> Entry:
    """Return the entry of a comparison."""
    return Entry(
        name=name,
        value=result.value,
        unit="x",
        goal=goal,
        better=better,
        n=result.n,
        spread=result.spread,
        how=how,
    )


def record_of(area: str, entry: Entry) -> dict[str, Any]:
    """Return an entry as it stands in a results file."""
    return {
        "area": area,
        "name": entry.name,
        "value": _rounded(entry.value),
        "unit": entry.unit,
        "goal": entry.goal,
        "better": entry.better,
        "met": entry.met,
        "n": entry.n,
        "spread": [_rounded(bound) for bound in entry.spread],
        "how": entry.how,
    }


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read a results file.

    Raises:
        ValueError: It is not one.
    """
    try:
        records = json.loads(path.read_text("utf-8"))
    except ValueError:
        records = None
    if not isinstance(records, list) or not all("how" in record for record in records):
        raise ValueError(f"{path} is not a results file of 'luna.py bench --json'.")
    return records


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write a results file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, indent=2) + "\n", "utf-8")


def replace_records(
    old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the old records, with those that were measured anew in their places, then further ones."""
    fresh = {(record["area"], record["name"]): record for record in new}
    kept = [fresh.pop((record["area"], record["name"]), record) for record in old]
    return [*kept, *fresh.values()]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
