"""Memory for large results, used again once nobody has a tensor in it any more.

The system clears every page that it gives, which can cost several times as much as the copy that fills
it. What is freed in smaller pieces, the C library keeps and gives again; large pieces it returns to the
system at once. So a client keeps those itself, no more bytes than an arena has.

A tensor in such memory is like one that shares its memory with a numpy array: only `resize_` beyond its
size is refused.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
import weakref

from ..errors import OutOfMemoryError

MIN_BYTES = 32 * 2**20  # up to here glibc keeps freed memory by itself
KEEP_BYTES = (
    256 * 2**20
)  # as the default of the setting `arena_mb`: larger results come another way
_STEP_BYTES = 2 * 2**20  # sizes are rounded up to a huge page, so that similar results fit


class ResultMemory:
    """Pieces of memory that are given out, come back by themselves, and are given out again.

    Safe in any thread and in a forked child. It never waits for its lock: a piece comes back wherever
    its last tensor happens to end, which may be inside a call of this class.
    """

    def __init__(self, keep_bytes: int = KEEP_BYTES) -> None:
        self._keep_bytes = keep_bytes
        self._free: list[mmap.mmap] = []  # the one that came back last is last
        self._lock = threading.Lock()
        self._closed = False

    def take(self, nbytes: int) -> memoryview:
        """Return writable memory. It comes back when the view and all that looks into it have ended.

        Raises:
            OutOfMemoryError: The system has no memory left.
        """
        piece = self._reused(nbytes)
        if piece is None:
            piece = _fresh(nbytes)
        view = memoryview(piece)[:nbytes]
        weakref.finalize(view, self._give_back, piece).atexit = False
        return view

    def close(self) -> None:
        """Keep nothing any more, neither what is here nor what comes back."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._free.clear()
            finally:
                self._lock.release()

    @property
    def kept_bytes(self) -> int:
        """Bytes that wait to be used again."""
        return sum(map(len, list(self._free)))

    def _reused(self, nbytes: int) -> mmap.mmap | None:
        """Return the smallest piece that is large enough, and at most twice as large."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            fitting = [piece for piece in self._free if nbytes <= len(piece) <= 2 * nbytes]
            if not fitting:
                return None
            best = min(fitting, key=len)
            self._free = [piece for piece in self._free if piece is not best]
            return best
        finally:
            self._lock.release()

    def _give_back(self, piece: mmap.mmap) -> None:
        if self._closed or not self._lock.acquire(blocking=False):
            return  # the system gets it
        try:
            self._free.append(piece)
            while sum(map(len, self._free)) > self._keep_bytes:
                del self._free[0]
        finally:
            self._lock.release()


def _fresh(nbytes: int) -> mmap.mmap:
    size = -(-nbytes // _STEP_BYTES) * _STEP_BYTES
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, size)
        # Private: what a forked child writes must not reach its parent.
        piece = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise OutOfMemoryError(
            f"This process got no memory for a result of {nbytes >> 20} MB ({error.strerror})."
        ) from error
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # this kernel has none; small pages do as well
            piece.madvise(mmap.MADV_HUGEPAGE)
    return piece
