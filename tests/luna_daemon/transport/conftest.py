"""No test of a transport may leave anything behind: shared memory has no owner that would clean it up."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

SHARED_MEMORY = Path("/dev/shm")


def _own_segments() -> set[str]:
    if not SHARED_MEMORY.is_dir():
        return set()
    return {path.name for path in SHARED_MEMORY.glob(f"luna-{os.getpid()}-*")}


@pytest.fixture(autouse=True)
def nothing_is_left_in_shared_memory() -> Iterator[None]:
    """Check that every named region of a test is gone after it."""
    before = _own_segments()
    yield
    assert _own_segments() == before


@pytest.fixture
def count_descriptors() -> Callable[[], int]:
    """Return a function that counts the open descriptors of this process."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux lists a process's descriptors in /proc")
    if sys.platform != "win32":
        resource_tracker.ensure_running()  # its pipe stays open from the first named region on

    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    return count
