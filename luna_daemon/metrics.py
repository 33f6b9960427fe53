"""Counts and durations of one daemon, since its start."""

from __future__ import annotations

from collections import Counter, defaultdict, deque

WINDOW = 2048  # durations kept per name, newest last


class Metrics:
    """Counters and sliding windows of durations, by name and label."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._durations: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        self._counts[_key(name, labels)] += amount

    def observe_ms(self, name: str, milliseconds: float, **labels: str) -> None:
        """Note a duration."""
        self._durations[_key(name, labels)].append(milliseconds)

    def counters(self) -> dict[str, int]:
        """Return all counters."""
        return dict(sorted(self._counts.items()))

    def durations(self) -> dict[str, dict[str, float]]:
        """Return count, median and 99th percentile of every duration's window, in milliseconds."""
        return {
            name: {
                "count": len(values),
                "p50_ms": round(percentile(values, 50), 3),
                "p99_ms": round(percentile(values, 99), 3),
            }
            for name, values in sorted(self._durations.items())
        }


def percentile(values: deque[float] | list[float], percent: float) -> float:
    """Return the nearest-rank percentile; 0 without values."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def _key(name: str, labels: dict[str, str]) -> str:
    if not labels:
        return name
    return name + "{" + ",".join(f"{k}={v}" for k, v in sorted(labels.items())) + "}"
