"""Signals that ask a command to end: each as Ctrl-C, and none in the middle of starting a process.

An exception inside `Popen` loses a process that already runs: nobody could end it any more.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_NAMES = tuple(name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _Interrupts:
    """What has come, and whether it has to wait."""

    def __init__(self) -> None:
        self.is_held = False
        self.has_come = False

    def take(self, _number: int, _frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, now or when nothing is being started any more."""
        # A second one would come while processes are being ended, which takes seconds.
        for name in _NAMES:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        if self.is_held:
            self.has_come = True
        else:
            raise KeyboardInterrupt


_interrupts = _Interrupts()


def end_as_by_ctrl_c() -> None:
    """Let every polite way of ending this process clean up, and none disturb that."""
    for name in _NAMES:
        signal.signal(getattr(signal, name), _interrupts.take)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait while processes are being started.

    Raises:
        KeyboardInterrupt: One has come; at the end, when every process is known.
    """
    _interrupts.is_held = True
    try:
        yield
    finally:
        _interrupts.is_held = False
    if _interrupts.has_come:
        _interrupts.has_come = False
        raise KeyboardInterrupt
