"""Files that were read once and stay in RAM, bounded by bytes.

A file is known by its path, size and time: one that was replaced is read again. Whoever still uses what
was dropped keeps it; it only is not found here any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from ..byte_lru import ByteLru
from ..errors import ModelFileError

T = TypeVar("T")
Stamp = tuple[int, int]  # size and time of the last change


class FileCache(Generic[T]):
    """What files hold, by path.

    Args:
        max_bytes: The bound; 0 keeps nothing.
        read: Path → what is kept, and how many bytes of RAM it takes.
    """

    def __init__(self, max_bytes: int, read: Callable[[Path], tuple[T, int]]) -> None:
        self._entries: ByteLru[Path, tuple[Stamp, T]] = ByteLru(max_bytes)
        self._read = read
        self._lock = threading.Lock()
        self.reads = 0

    @property
    def nbytes(self) -> int:
        """How much is kept."""
        return self._entries.nbytes

    def get(self, path: Path) -> tuple[Stamp, T]:
        """Return what a file holds, and which state of the file that is.

        Raises:
            ModelFileError: It is not there or cannot be read.
        """
        with self._lock:
            stamp = _stamp(path)
            known = self._entries.get(path)
            if known is not None and known[0] == stamp:
                return known
            self._entries.drop(path)
            value, nbytes = self._read(path)
            self.reads += 1
            # The state from before reading: a file that changed meanwhile is read again next time.
            self._entries.put(path, (stamp, value), nbytes)
            return stamp, value


def _stamp(path: Path) -> Stamp:
    try:
        state = path.stat()
    except OSError as error:
        raise ModelFileError(
            f"The LoRA '{path}' cannot be read: {error.strerror}.",
            "Check the file and its permissions, and press R in ComfyUI to read the lists anew.",
        ) from error
    return state.st_size, state.st_mtime_ns
