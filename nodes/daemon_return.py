"""When models are opened anew because the daemon was not there, and is or may be again.

ComfyUI keeps what a loader gave for as long as its inputs stay the same. So a loader that has lost the
daemon, or did without it, would do without it until somebody changes something.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..utils.circuit_breaker import CircuitBreaker


class DaemonReturn:
    """Counts the times at which loaders should run again.

    Args:
        breaker: Says whether the daemon may be tried now.
        answers: Does the daemon answer?
        was_lost: Was it lost, since this was asked last, by models that were open in it?
        clock: Seconds.
    """

    def __init__(
        self,
        breaker: CircuitBreaker,
        answers: Callable[[], bool],
        was_lost: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._breaker = breaker
        self._answers = answers
        self._was_lost = was_lost
        self._clock = clock
        self._is_missed = False
        self._count = 0

    def miss(self) -> None:
        """Note that models are local only because the daemon could not be reached."""
        self._is_missed = True

    def count(self) -> int:
        """Return a number that grows when loaders should run again, as part of their fingerprint."""
        # A loader that has lost it starts it again; one that found none before waits until it is there.
        if self._was_lost() or (self._is_missed and self._is_back()):
            self._is_missed = False
            self._count += 1
        return self._count

    def _is_back(self) -> bool:
        now = self._clock()
        if not self._breaker.allows(now):
            return False
        if self._answers():
            return True
        self._breaker.failed(now)
        return False
