"""What the daemon holds at a moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from .soak_daemon import SoakDaemon

CALM_S = 3.0
SETTLE_S = 60.0
_ARENA = "luna-arena"  # how anonymous shared memory is called in a process's maps


@dataclass(frozen=True, slots=True)
class Holdings:
    """`arenas`: maps of anonymous shared memory. `children`: with those nobody has waited for."""

    supervisor_rss: int
    descriptors: int
    threads: int
    arenas: int
    children: int
    worker_rss: int
    worker_descriptors: int
    worker_arenas: int
    shared_memory: tuple[str, ...]

    @property
    def countable(self) -> tuple[object, ...]:
        """What has to come back to exactly what it was."""
        return (self.descriptors, self.arenas, self.children, self.shared_memory)


def holdings(daemon: SoakDaemon) -> Holdings:
    """Measure now.

    Raises:
        psutil.Error: The supervisor has gone.
    """
    supervisor = daemon.process
    workers = [_of(worker) for worker in daemon.workers()]
    with supervisor.oneshot():
        own = _of(supervisor)
        return Holdings(
            supervisor_rss=own["rss"],
            descriptors=own["descriptors"],
            threads=supervisor.num_threads(),
            arenas=own["arenas"],
            children=len(supervisor.children(recursive=True)),
            worker_rss=sum(worker["rss"] for worker in workers),
            worker_descriptors=sum(worker["descriptors"] for worker in workers),
            worker_arenas=sum(worker["arenas"] for worker in workers),
            shared_memory=shared_memory_of(daemon),
        )


def settled(daemon: SoakDaemon) -> Holdings:
    """Wait until what can be counted does not change for some seconds, and return it."""
    deadline = time.monotonic() + SETTLE_S
    last, since = holdings(daemon), time.monotonic()
    while time.monotonic() - since < CALM_S and time.monotonic() < deadline:
        time.sleep(0.2)
        now = holdings(daemon)
        if now.countable != last.countable or now.worker_arenas != last.worker_arenas:
            since = time.monotonic()
        last = now
    return last


def shared_memory_of(daemon: SoakDaemon) -> tuple[str, ...]:
    """Return the names in shared memory that any of the soak's supervisors has made."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return ()
    makers = {str(pid) for pid in daemon.pids}
    names = (path.name for path in folder.glob("luna-*-*"))
    return tuple(sorted(name for name in names if name.split("-")[1] in makers))


def _of(process: psutil.Process) -> Mapping[str, int]:
    try:
        maps = process.memory_maps(grouped=False) if hasattr(process, "memory_maps") else []
        return {
            "rss": int(process.memory_info().rss),
            "descriptors": process.num_fds() if hasattr(process, "num_fds") else 0,
            "arenas": sum(_ARENA in one.path for one in maps),
        }
    except psutil.Error:  # a worker that ends just now
        return {"rss": 0, "descriptors": 0, "arenas": 0}
