"""One daemon per runtime folder and port.

The operating system holds the lock for as long as the process lives, however it ends. Beside it lies a
record of who holds it (process id *and* start time, since ids are used again) and how to reach it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock
import msgspec
import psutil

from .errors import ConfigError

_READING_S = 1.0  # longer than it takes to read a record
_POLL_S = 0.01


class AlreadyRunsError(ConfigError):
    """Another daemon has the lock."""

    EXIT_CODE = 3  # of the process that finds it out; who started it can wait for the other


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """What a running daemon says about itself."""

    pid: int
    started_at: float  # start_time() of the process
    boot_id: str
    host: str
    port: int
    log_path: str

    @property
    def is_alive(self) -> bool:
        """Does the process that wrote this still run?"""
        return is_alive(self.pid, self.started_at)


def is_alive(pid: int, started_at: float | None = None) -> bool:
    """Is there a process with this id (and this start time)?"""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and (
            started_at is None or abs(start_time(process) - started_at) < 1.0
        )
    except (psutil.NoSuchProcess, ValueError):  # ValueError: no process can have this id
        return False
    except psutil.AccessDenied:
        return True


class InstanceLock:
    """The lock of one daemon."""

    def __init__(self, folder: Path, port: int) -> None:
        self.record_path = folder / f"daemon-{port}.json"
        self._lock = filelock.FileLock(str(folder / f"daemon-{port}.lock"))

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            AlreadyRunsError: Another daemon has it; the message says which.
        """
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            other = read_record(self.record_path)
            # A daemon that is only starting has not replaced the record of one that was killed.
            who = f" (process {other.pid})" if other and other.is_alive else ""
            raise AlreadyRunsError(
                f"A Luna daemon already runs here{who}.",
                "Use it, stop it with 'luna-daemon stop', or choose another --port.",
            ) from error

    def publish(self, record: InstanceRecord) -> None:
        """Write the record, whole or not at all."""
        part = self.record_path.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(record))
        _while_others_read(lambda: os.replace(part, self.record_path))

    def release(self) -> None:
        """Remove the record and give the lock back, if it was taken."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):  # nobody believes a record without its process
                _while_others_read(lambda: self.record_path.unlink(missing_ok=True))
            self._lock.release()


def _while_others_read(change: Callable[[], object]) -> None:
    """Change a file that another program may be reading just now, which Windows refuses."""
    deadline = time.monotonic() + _READING_S
    while True:
        try:
            change()
            return
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def read_record(path: Path) -> InstanceRecord | None:
    """Return a record, or None when there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=InstanceRecord)
    except (OSError, msgspec.DecodeError):
        return None


def own_start_time() -> float:
    """Return the start time of this process."""
    return start_time(psutil.Process())


def start_time(process: psutil.Process) -> float:
    """Return when a process started, in seconds: on Linux since boot, elsewhere since the epoch.

    Linux keeps no other time; psutil adds that of the boot, which moves when the clock is set.

    Raises:
        psutil.NoSuchProcess: It has ended.
    """
    if not sys.platform.startswith("linux"):
        return float(process.create_time())
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(process.pid) from error
    # proc(5): the name, in parentheses, may hold anything; field 22 is the 20th after it.
    ticks = stat.rpartition(")")[2].split()[19]
    return int(ticks) / os.sysconf("SC_CLK_TCK")
