"""Counts and durations of one daemon, since its start.

A duration is kept in two ways: in a histogram with fixed buckets, which a monitoring system adds up over
time, and among the latest ones, of which the status shows median and 99th percentile.
Not for use from several threads.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .metric_families import COUNTER, FAMILIES, HISTOGRAM, Family

WINDOW = 2048  # durations kept per name and labels, the newest last
Labels = tuple[str, ...]  # values, in the order of the family's labels


@dataclass(slots=True)
class Histogram:
    """How many durations were at most how long, and which came last. Seconds."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)  # one per bound, and one for what is above all of them
    total: float = 0.0
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Note a duration."""
        self.counts[bisect.bisect_left(self.bounds, seconds)] += 1
        self.total += seconds
        self.latest.append(seconds)

    @property
    def count(self) -> int:
        """How many durations there were."""
        return sum(self.counts)

    def summary(self) -> dict[str, float]:
        """Return the count, and median and 99th percentile of the latest, in milliseconds."""
        return {
            "count": self.count,
            "p50_ms": round(percentile(self.latest, 50) * 1000, 3),
            "p99_ms": round(percentile(self.latest, 99) * 1000, 3),
        }

    def cumulative(self) -> list[int]:
        """Return for each bound how many durations were not above it, and last how many there were."""
        return list(itertools.accumulate(self.counts))


@dataclass(frozen=True, slots=True)
class Sample:
    """One metric's value for one set of labels."""

    name: str
    labels: Labels
    value: float | Histogram


class Metrics:
    """Counters and durations, by name and labels.

    Every method raises KeyError or ValueError for what is not in the table: a name or a label that was
    misspelt must show in the first test that comes by.
    """

    def __init__(self, families: Iterable[Family] = FAMILIES) -> None:
        self._families = {family.name: family for family in families}
        self._counts: Counter[tuple[str, Labels]] = Counter()
        self._histograms: dict[tuple[str, Labels], Histogram] = {}
        self._keys: dict[tuple[object, ...], tuple[str, Labels]] = {}  # as asked for → in the table

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        self._counts[self._key(name, COUNTER, labels)] += amount

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Note a duration."""
        key = self._key(name, HISTOGRAM, labels)
        histogram = self._histograms.get(key)
        if histogram is None:
            histogram = self._histograms[key] = Histogram(self._families[name].bounds)
        histogram.observe(seconds)

    def total(self, name: str, **labels: str) -> int:
        """Return the sum of a counter over all labels that are not given."""
        family = self._families[name]
        wanted = [(family.labels.index(label), value) for label, value in labels.items()]
        return sum(
            number
            for (counter, values), number in self._counts.items()
            if counter == name and all(values[place] == value for place, value in wanted)
        )

    def counters(self) -> dict[str, int]:
        """Return all counters that were counted, by name and labels."""
        return {self._shown(*key): number for key, number in sorted(self._counts.items())}

    def durations(self) -> dict[str, dict[str, float]]:
        """Return the summary of every duration, by name and labels."""
        return {
            self._shown(*key): histogram.summary()
            for key, histogram in sorted(self._histograms.items(), key=lambda item: item[0])
        }

    def duration(self, name: str, **labels: str) -> dict[str, float] | None:
        """Return one entry of `durations`; None when nothing was observed."""
        histogram = self._histograms.get(self._key(name, HISTOGRAM, labels))
        return histogram.summary() if histogram else None

    def samples(self) -> Iterator[Sample]:
        """Return everything that was counted or observed. A counter without labels begins at 0."""
        for family in self._families.values():
            if family.kind == COUNTER and not family.labels:
                yield Sample(family.name, (), self._counts[family.name, ()])
        for (name, labels), number in self._counts.items():
            if labels:
                yield Sample(name, labels, number)
        for (name, labels), histogram in self._histograms.items():
            yield Sample(name, labels, histogram)

    def _key(self, name: str, kind: str, labels: dict[str, str]) -> tuple[str, Labels]:
        asked = (name, kind, *labels.items())
        key = self._keys.get(asked)  # every request asks for several, and always for the same
        if key is None:
            key = self._keys[asked] = (name, self._values(name, kind, labels))
        return key

    def _values(self, name: str, kind: str, labels: dict[str, str]) -> Labels:
        family = self._families[name]
        if family.kind != kind or len(labels) != len(family.labels):
            raise ValueError(f"'{name}' is a {family.kind} with the labels {family.labels}.")
        return tuple([labels[label] for label in family.labels])  # as many, and none is missing

    def _shown(self, name: str, values: Labels) -> str:
        pairs = sorted(zip(self._families[name].labels, values, strict=True))
        return name + ("{" + ",".join(f"{k}={v}" for k, v in pairs) + "}" if pairs else "")


def percentile(values: deque[float] | list[float], percent: float) -> float:
    """Return the nearest-rank percentile; 0 without values."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]
