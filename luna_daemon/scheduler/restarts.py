"""When a worker that died may be started again."""

from __future__ import annotations

from collections import deque

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
WINDOW_S = 120.0
BUDGET = 5  # deaths within the window


class CrashBudget:
    """Counts deaths of one worker within a sliding window."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()
        self.total = 0

    def record(self, now: float) -> None:
        """Note a death."""
        self.total += 1
        self._deaths.append(now)

    def delay(self, now: float) -> float:
        """Return the seconds to wait before the next start: none at first, then doubling."""
        recent = self._recent(now)
        if recent <= 1:
            return 0.0
        return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (recent - 2)))

    def exhausted(self, now: float) -> bool:
        """Has it died so often that starting it again would only repeat the failure?"""
        return self._recent(now) > BUDGET

    def _recent(self, now: float) -> int:
        while self._deaths and self._deaths[0] < now - WINDOW_S:
            self._deaths.popleft()
        return len(self._deaths)
