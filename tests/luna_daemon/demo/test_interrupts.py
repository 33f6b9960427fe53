"""A signal while processes are being started comes when all of them are known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from luna_collection.luna_daemon.demo.interrupts import end_as_by_ctrl_c, held_back


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put this process's own handlers back."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    end_as_by_ctrl_c()
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def test_a_signal_is_as_ctrl_c():
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_it_waits_while_processes_are_started():
    steps = []

    def start() -> None:
        with held_back():
            signal.raise_signal(signal.SIGTERM)
            steps.append("started")
        steps.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert steps == ["started"]


def test_a_second_one_disturbs_nothing():
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)


def test_without_a_signal_nothing_is_raised():
    with held_back():
        done = subprocess.run([sys.executable, "-c", ""], check=False, env=dict(os.environ))
    assert done.returncode == 0
