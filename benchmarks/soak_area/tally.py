"""What happened to requests: counted where it was as it should be, told in full where it was not."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

HANG_S = 30.0  # a call that takes so much longer than it was given hangs
WRONG, HANG, ACCEPTED = "WRONG", "HANG", "ACCEPTED"  # beside the codes of errors


@dataclass(frozen=True, slots=True)
class Trouble:
    """A request that did not end as it does when nothing is killed. Times are monotonic seconds.

    `code` is an error's, or the name of an exception that nobody should see, or WRONG, HANG, ACCEPTED.
    """

    kind: str
    code: str
    started: float
    ended: float
    text: str


class Tally:
    """The counts of one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._troubles: list[Trouble] = []
        self._due: dict[int, float] = {}  # thread → when its call hangs

    @contextmanager
    def watched(self, seconds: float) -> Iterator[None]:
        """Note that this thread makes a call that has so many seconds."""
        me = threading.get_ident()
        with self._lock:
            self._due[me] = time.monotonic() + seconds + HANG_S
        try:
            yield
        finally:
            with self._lock:
                del self._due[me]

    def count(self, kind: str, outcome: str) -> None:
        """Count a request that ended in one of the ways it may."""
        with self._lock:
            self._counts[f"{kind} {outcome}"] += 1

    def tell(self, trouble: Trouble) -> None:
        """Keep what has to be judged."""
        self.count(trouble.kind, trouble.code)
        with self._lock:
            self._troubles.append(trouble)

    def drain(self) -> dict[str, Any]:
        """Return what has come since the last time, JSON-ready, and how many calls hang now."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            troubles, self._troubles = self._troubles, []
            now = time.monotonic()
            hanging = sum(due < now for due in self._due.values())
        return {"counts": counts, "troubles": [asdict(one) for one in troubles], "hanging": hanging}
