"""Kills and stops processes of the soak at random moments, and remembers when."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from .fleet import Fleet
from .soak_daemon import HEARTBEAT_S, SoakDaemon

PAUSE_S = (3.0, 12.0)  # between two deeds
NAP_S = (2.0, 6.0)  # a client is stopped for so long
# A worker that dies more than five times in two minutes is given up for a while, which is right but
# would fail every request.
MOST_DEATHS, WINDOW_S = 4, 130.0

WORKER_KILLED, WORKER_STOPPED = "worker killed", "worker stopped"
CLIENT_KILLED, CLIENT_STOPPED = "client killed", "client stopped"
DAEMON_KILLED = "daemon killed"


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that was done, and until when requests may feel it. Monotonic seconds."""

    kind: str
    started: float
    ended: float


@dataclass(slots=True)
class Deeds:
    """What was done so far."""

    incidents: list[Incident] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """Return how often what was done."""
        return Counter(incident.kind for incident in self.incidents)


class Killer:
    """Does something now and then. One thread."""

    def __init__(self, daemon: SoakDaemon, fleet: Fleet, seed: int) -> None:
        self.deeds = Deeds()
        self._daemon = daemon
        self._fleet = fleet
        self._chance = random.Random(seed)
        self._deaths: deque[float] = deque()
        self._next = time.monotonic() + self._chance.uniform(*PAUSE_S)
        self._naps: list[tuple[float, psutil.Process]] = []

    def step(self, *, may_kill_daemon: bool) -> None:
        """Do something when it is time for it."""
        self._wake(time.monotonic())
        if time.monotonic() < self._next:
            return
        deeds: dict[Callable[[], None], int] = {self._kill_client: 4, self._stop_client: 2}
        if self._workers_may_die():
            deeds.update({self._kill_worker: 5, self._stop_worker: 2})
        if may_kill_daemon:
            deeds[self._kill_daemon] = 1
        choices, weights = zip(*deeds.items(), strict=True)
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended a moment before
            self._chance.choices(choices, weights)[0]()
        self._next = time.monotonic() + self._chance.uniform(*PAUSE_S)

    def end(self) -> None:
        """Let go on what was stopped."""
        self._wake(float("inf"))

    def _workers_may_die(self) -> bool:
        now = time.monotonic()
        while self._deaths and self._deaths[0] < now - WINDOW_S:
            self._deaths.popleft()
        return len(self._deaths) < MOST_DEATHS and bool(self._daemon.workers())

    def _kill_worker(self) -> None:
        self._hit_worker(signal.SIGKILL, WORKER_KILLED, 1.0)

    def _stop_worker(self) -> None:
        self._hit_worker(signal.SIGSTOP, WORKER_STOPPED, 2 * HEARTBEAT_S)

    def _hit_worker(self, number: signal.Signals, kind: str, seconds: float) -> None:
        worker = self._chance.choice(self._daemon.workers())
        now = time.monotonic()
        self._deaths.append(now)
        self._note(kind, now, now + seconds)
        worker.send_signal(number)

    def _kill_client(self) -> None:
        client = self._chance.choice(self._fleet.clients)
        self._note(CLIENT_KILLED, time.monotonic(), time.monotonic())
        psutil.Process(client.pid).kill()

    def _stop_client(self) -> None:
        client = self._chance.choice(self._fleet.clients)
        process = psutil.Process(client.pid)
        now = time.monotonic()
        until = now + self._chance.uniform(*NAP_S)
        self._note(CLIENT_STOPPED, now, until)
        client.stopped_until = until
        process.suspend()
        self._naps.append((until, process))

    def _kill_daemon(self) -> None:
        started = time.monotonic()
        left = self._daemon.kill()
        self.deeds.orphans += [f"{one.pid} {one.name()}" for one in left if one.is_running()]
        self._daemon.start()
        self._deaths.clear()
        self._note(DAEMON_KILLED, started, time.monotonic() + 2.0)

    def _wake(self, now: float) -> None:
        for nap in [nap for nap in self._naps if nap[0] <= now]:
            self._naps.remove(nap)
            try:
                nap[1].resume()
            except psutil.NoSuchProcess:  # killed in its sleep
                continue

    def _note(self, kind: str, started: float, ended: float) -> None:
        self.deeds.incidents.append(Incident(kind, started, ended))
