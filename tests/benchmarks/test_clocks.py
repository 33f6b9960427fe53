from __future__ import annotations

import subprocess
import sys
import time

import pytest
from luna_collection.benchmarks.clocks import (
    SAMPLE_CPU_S,
    calls_per_sample,
    cpu_cost,
    cpu_seconds,
    wall_p50,
)

# Tells when it begins, works for some CPU time, tells that it is done, and waits.
WORKS = (
    "import sys, time; print('on', flush=True); sys.stdin.readline()\n"
    "end = time.process_time() + 0.2\n"
    "while time.process_time() < end: pass\n"
    "print('done', flush=True); sys.stdin.readline()"
)


@pytest.fixture
def busy_child():
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WORKS], stdin=pipe, stdout=pipe, text=True) as one:
        one.stdout.readline()
        yield one
        one.kill()


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_the_cost_of_a_call_counts_the_work_of_other_processes(busy_child):
    def let_it_work():
        busy_child.stdin.write("\n")
        busy_child.stdin.flush()
        busy_child.stdout.readline()

    assert 0.19 < cpu_cost(let_it_work, [busy_child.pid]) < 0.4


def test_waiting_costs_no_cpu_time(busy_child):
    assert cpu_cost(lambda: time.sleep(0.1), [busy_child.pid]) < 0.05


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has these clocks")
def test_a_process_that_has_ended_has_no_clock(busy_child):
    busy_child.kill()
    busy_child.wait()
    with pytest.raises(OSError):  # noqa: PT011  (which one depends on how long ago it ended)
        cpu_seconds(busy_child.pid)


def test_a_sample_takes_long_enough():
    calls = calls_per_sample(lambda: spin(0.002), [])
    assert 0.5 * SAMPLE_CPU_S < calls * 0.002 < 2 * SAMPLE_CPU_S


def test_one_long_call_is_a_sample():
    assert calls_per_sample(lambda: spin(2 * SAMPLE_CPU_S), []) == 1


def test_the_median_wall_time_passes_over_one_slow_call():
    durations = iter([0.0, 0.0, 0.05, 0.0, 0.0])
    assert wall_p50(lambda: time.sleep(next(durations)), 5) < 0.02
