"""A point in time at which work for somebody who waits is given up."""

from __future__ import annotations

import math
import time

from .errors import WildcardError


class Deadline:
    """Asked now and then by what may take long.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raise WildcardError when the time is over."""
        if time.monotonic() > self._end:
            raise WildcardError(
                f"This takes longer than {self._seconds:g} s.",
                "Ask for less at once, or look for names that refer to very many others.",
            )


NEVER = Deadline(math.inf)
