"""One set-up at a time, across processes.

The operating system holds the lock and lets go of it when the last process that has the file open
ends, so a killed run leaves nothing to clean up. Hand the yielded descriptor to child processes that
change the environment: a pip that outlives a killed `luna.py` then still keeps the next run waiting.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .console import say

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


POLL_S = 0.3


@contextmanager
def exclusive(path: Path, waiting: str) -> Iterator[int]:
    """Hold the lock file while the body runs; say `waiting` once if somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if not _try_lock(file.fileno()):
            say(waiting)
            while not _try_lock(file.fileno()):
                time.sleep(POLL_S)
        yield file.fileno()
