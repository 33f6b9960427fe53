"""A circuit breaker: after failures in a row, do not even try for a while.

Pure: it holds times, and whoever uses it brings the clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CircuitBreaker:
    """Counts failures in a row and says whether to try.

    Attributes:
        limit: So many failures in a row open it.
        pause_s: The first pause; each further failure doubles it.
        longest_pause_s: No pause is longer.
    """

    limit: int = 1
    pause_s: float = 10.0
    longest_pause_s: float = 300.0
    failures: int = 0
    _closed_again_at: float = 0.0

    def allows(self, now: float) -> bool:
        """May it be tried now? `now`: seconds of any clock that only goes forward."""
        return self.failures < self.limit or now >= self._closed_again_at

    def waits_s(self, now: float) -> float:
        """Return for how long it will not be tried."""
        return 0.0 if self.allows(now) else self._closed_again_at - now

    def failed(self, now: float) -> None:
        """Note that an attempt has failed."""
        self.failures += 1
        if self.failures >= self.limit:
            doublings = min(self.failures - self.limit, 32)  # a float has room for no more
            self._closed_again_at = now + min(self.pause_s * 2**doublings, self.longest_pause_s)

    def succeeded(self) -> None:
        """Note that an attempt has succeeded: the failures are over."""
        self.failures = 0
