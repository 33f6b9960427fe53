"""Another program starts the daemon: once, detached, and knows when it is there or why it is not."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from luna_collection.luna_daemon.client import DaemonClient
from luna_collection.luna_daemon.config import DaemonConfig
from luna_collection.luna_daemon.config_sources import resolve
from luna_collection.luna_daemon.errors import DaemonUnreachableError
from luna_collection.luna_daemon.instance_lock import read_record
from luna_collection.luna_daemon.launch import Launcher

QUIET = ("--device=cpu", "--model-roots=.")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[DaemonConfig]:
    config = resolve({"runtime_dir": tmp_path / "run", "port": 0}, env={}).config
    yield config
    record = read_record(config.folder / "daemon-0.json")
    if record is not None and record.is_alive:
        daemon = psutil.Process(record.pid)
        daemon.terminate()
        daemon.wait(30)


def pid_of(config: DaemonConfig) -> int:
    with DaemonClient(config=config) as client:
        return int(client.status()["pid"])


def test_it_starts_a_daemon_once_and_then_finds_it(config):
    launcher = Launcher(config, QUIET)
    assert launcher.begin()
    assert not launcher.begin()  # one is starting
    launcher.wait()
    daemon = pid_of(config)
    assert not launcher.begin()
    assert not Launcher(config, QUIET).begin()  # another program finds the same one
    assert pid_of(config) == daemon


def test_of_two_programs_that_start_one_at_once_both_get_the_same(config):
    launchers = [Launcher(config, QUIET) for _ in range(3)]
    threads = [threading.Thread(target=launcher.begin) for launcher in launchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for launcher in launchers:
        launcher.wait()
    processes = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(config.folder) in " ".join(process.info["cmdline"] or ())
        and "worker" not in (process.info["cmdline"] or ())
    ]
    assert pid_of(config) in {process.pid for process in processes}


def test_a_daemon_that_cannot_start_says_why(config):
    launcher = Launcher(config, ["--clip-device=cpu", "--max-queue=none"])
    launcher.begin()
    with pytest.raises(DaemonUnreachableError) as failed:
        launcher.wait()
    assert "max-queue" in failed.value.message
    assert "Start it by hand" in failed.value.hint


@pytest.mark.parametrize("what", ["folder", "notes of its start"])
def test_what_keeps_it_from_being_started_is_said_as_if_it_could_not_be_reached(
    config, tmp_path: Path, what: str
):
    """So that a node which may do without the daemon does."""
    taken = tmp_path / "taken"
    if what == "folder":
        taken.write_bytes(b"")
    else:
        (taken / f"start-{config.listen_port}.log").mkdir(parents=True)
    launcher = Launcher(dataclasses.replace(config, runtime_dir=taken), QUIET)
    with pytest.raises(DaemonUnreachableError, match=r"could not be started\. .*taken"):
        launcher.begin()


def test_a_wait_can_be_interrupted(config):
    class CancelledByUserError(Exception):
        pass

    def cancel() -> None:
        raise CancelledByUserError

    launcher = Launcher(config, QUIET)
    launcher.begin()
    with pytest.raises(CancelledByUserError):
        launcher.wait(interrupt=cancel)
    launcher.wait()


def test_it_sees_a_daemon_end(config):
    launcher = Launcher(config, QUIET)
    launcher.begin()
    launcher.wait()
    with DaemonClient(config=config) as client:
        client.stop_daemon()
    assert launcher.wait_until_gone(60)
    assert launcher.begin()
    launcher.wait()


def test_a_daemon_of_somebody_else_on_our_port_is_said(config, tmp_path: Path):
    theirs = dataclasses.replace(config, port=free_port())
    launcher = Launcher(theirs, QUIET)
    launcher.begin()
    launcher.wait()
    ours = dataclasses.replace(theirs, runtime_dir=tmp_path / "ours")
    try:
        said = "belongs to a daemon that is not ours.*set token_path.*another port"
        with pytest.raises(DaemonUnreachableError, match=said):
            Launcher(ours, QUIET).begin()
    finally:
        with DaemonClient(config=theirs) as client:
            client.stop_daemon()
        assert launcher.wait_until_gone(60)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
