"""The daemon itself, before it has any work: how soon it is there and what it takes."""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from ..entries import LOWER, Bench, Entry
from ..pairs import summarize
from .private_daemon import PrivateDaemon

STARTS, STARTS_QUICK = 9, 5
GOAL_RSS_MB = 60.0
GOAL_START_S = 1.5


def measure(bench: Bench) -> Iterator[Entry]:
    """Start the daemon several times."""
    seconds, megabytes = [], []
    for number in range(STARTS_QUICK if bench.quick else STARTS):
        with PrivateDaemon(bench.folder) as daemon:
            seconds.append(daemon.started_in_s)
            megabytes.append(psutil.Process(daemon.pid).memory_info().rss / 2**20)
        bench.tell(f"start {number + 1}: {seconds[-1]:.2f} s, {megabytes[-1]:.0f} MB")
    for name, values, unit, goal, how in (
        (
            "supervisor memory",
            megabytes,
            "MB",
            GOAL_RSS_MB,
            "Resident memory of the supervisor after its start, when a first client has been answered.",
        ),
        (
            "supervisor start",
            seconds,
            "s",
            GOAL_START_S,
            "Wall time from starting the process to the answer to a first client's ping.",
        ),
    ):
        result = summarize(values)
        yield Entry(
            name=name,
            value=result.value,
            unit=unit,
            goal=goal,
            better=LOWER,
            n=result.n,
            spread=result.spread,
            how=how,
        )
