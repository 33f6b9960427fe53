"""A file that grows beside its place until it is whole, and what is known of it if the work is interrupted.

Beside `model.gguf` stand, while it is made, `.model.gguf.part` (its bytes so far), `.model.gguf.part.json` (which
tensors are in it) and `.model.gguf.lock` (who makes it). Interrupted work goes on from there, if source and
recipe are still the same.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

from ..errors import LunaError, ModelFileError
from ..whole_file import write_whole


def part_of(target: Path) -> Path:
    """Return where a file is made."""
    return target.with_name(f".{target.name}.part")


def record_of(target: Path) -> Path:
    """Return where it is written what is in the part."""
    return target.with_name(f".{target.name}.part.json")


def lock_of(target: Path) -> Path:
    """Return the file that whoever makes the target holds a lock on."""
    return target.with_name(f".{target.name}.lock")


def read_record(target: Path, key: str) -> dict[str, Any]:
    """Return what is known of a part that was made with this key; {} where there is none."""
    try:
        record = json.loads(record_of(target).read_bytes())
        size = part_of(target).stat().st_size
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict) or record.get("key") != key or record.get("size") != size:
        return {}
    finished = record.get("finished")
    return finished if isinstance(finished, dict) else {}


def write_record(target: Path, key: str, size: int, finished: dict[str, Any]) -> None:
    """Note which tensors are in the part. Their bytes have to be on the disk already."""
    record = {"key": key, "size": size, "finished": finished}
    write_whole(record_of(target), json.dumps(record).encode("utf-8"))


def remove_part(target: Path) -> None:
    """Remove what is left of interrupted work."""
    for path in (part_of(target), record_of(target)):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


class ThreadedFile:
    """A file that several threads read or write at places of their own; each has its own handle.

    Args:
        path: The file, which is there.
        mode: "rb", or "r+b" to write.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self._mode = mode
        self._own = threading.local()
        self._all: list[io.FileIO] = []
        self._lock = threading.Lock()

    def read_into(self, buffer: memoryview, begin: int) -> None:
        """Fill a buffer with the bytes from a place on.

        Raises:
            ModelFileError: The file ends before.
        """
        handle = self._handle()
        handle.seek(begin)
        filled = 0
        while filled < len(buffer):
            count = handle.readinto(buffer[filled:])
            if not count:
                raise ModelFileError(
                    f"'{self.path.name}' ends before its last tensor: it was cut short while it was read.",
                    "Convert it again when it is written completely.",
                )
            filled += count

    def write(self, data: memoryview, begin: int) -> None:
        """Write bytes to a place."""
        handle = self._handle()
        handle.seek(begin)
        while data:
            data = data[handle.write(data) :]

    def sync(self) -> None:
        """Wait until everything written so far is on the disk."""
        os.fsync(self._handle().fileno())

    def close(self) -> None:
        """Close the handles of all threads."""
        with self._lock:
            for handle in self._all:
                handle.close()
            self._all.clear()

    def _handle(self) -> io.FileIO:
        handle: io.FileIO | None = getattr(self._own, "handle", None)
        if handle is None:
            handle = io.FileIO(self.path, self._mode)
            self._own.handle = handle
            with self._lock:
                self._all.append(handle)
        return handle


def begin_part(target: Path, size: int, head: bytes) -> None:
    """Make a part of its final size, with its first bytes."""
    with part_of(target).open("wb") as file:
        file.write(head)
        file.truncate(size)


def finish_part(target: Path) -> None:
    """Put a whole part in its place, over what was there."""
    try:
        os.replace(part_of(target), target)
    except PermissionError as error:
        raise LunaError(
            f"'{target}' cannot be replaced: {error.strerror}.",
            "A program may have it open: close what uses this model, and try again.",
        ) from error
    with contextlib.suppress(FileNotFoundError):
        record_of(target).unlink()
