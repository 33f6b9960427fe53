"""Counts which files of some folders any process opens or reads, by Linux's inotify."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path
from types import TracebackType

_ACCESS, _OPEN, _IS_FOLDER = 0x1, 0x20, 0x40000000
_EVENT = struct.Struct("iIII")
CAN_COUNT = sys.platform.startswith("linux")


class FileOpens:
    """What was opened or read below a folder since it was asked last; use it in a `with` block."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        folders = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
        self._folders = {self._watch(path): path for path in folders}

    def __enter__(self) -> FileOpens:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._handle)

    def take(self) -> list[str]:
        """Return the files' paths, once for each time that something was done with them."""
        found: list[str] = []
        while events := self._read():
            place = 0
            while place < len(events):
                watch, mask, _, length = _EVENT.unpack_from(events, place)
                place += _EVENT.size
                name = events[place : place + length].rstrip(b"\0").decode()
                place += length
                assert watch != -1, "too much happened to be counted"
                if not mask & _IS_FOLDER:
                    found.append(str(self._folders[watch] / name))
        return found

    def _watch(self, folder: Path) -> int:
        watch: int = self._libc.inotify_add_watch(
            self._handle, os.fsencode(folder), _ACCESS | _OPEN
        )
        if watch < 0:
            raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")
        return watch

    def _read(self) -> bytes:
        try:
            return os.read(self._handle, 65536)
        except BlockingIOError:
            return b""
