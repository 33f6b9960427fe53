"""CPU time of several processes together, and wall time of blocks of calls.

CPU time is what a comparison on a shared machine can rest on: it does not grow while others run. On
Linux every process has a clock in nanoseconds that others may read; elsewhere psutil's is used, which
may tick every 10 ms, so a sample has to be long enough for it.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterable

import psutil

from .pairs import percentile

SAMPLE_CPU_S = 0.05  # a shorter sample would show the clock's ticks and single interruptions


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, with all its threads.

    Raises:
        OSError: It has ended.
    """
    if pid == os.getpid():
        return time.process_time()
    if sys.platform.startswith("linux"):
        return time.clock_gettime(_clock_of(pid))
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def cpu_cost(call: Callable[[], object], pids: Iterable[int]) -> float:
    """Return the CPU seconds that a call costs this process and the others together."""
    watched = [os.getpid(), *pids]
    before = sum(map(cpu_seconds, watched))
    call()
    return sum(map(cpu_seconds, watched)) - before


def calls_per_sample(call: Callable[[], object], pids: Iterable[int]) -> int:
    """Return how often to make a call so that a sample is long enough for the clock."""
    call()  # the first one may do what the others need not
    cost = cpu_cost(lambda: [call() for _ in range(3)], pids) / 3
    return max(1, math.ceil(SAMPLE_CPU_S / max(cost, 1e-7)))


def wall_p50(call: Callable[[], object], calls: int) -> float:
    """Return the median wall time of so many calls in a row, in seconds."""
    return percentile(wall_times(call, calls), 50)


def wall_times(call: Callable[[], object], calls: int) -> list[float]:
    """Return the wall time of each of so many calls in a row, in seconds."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


@functools.cache
def _clock_of(pid: int) -> int:
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, f"The process {pid} has no clock: it has ended.")
    return clock.value
