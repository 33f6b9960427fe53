from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from luna_collection.luna_daemon.errors import ConfigError
from luna_collection.luna_daemon.instance_lock import (
    InstanceLock,
    InstanceRecord,
    is_alive,
    own_start_time,
    read_record,
    start_time,
)

HOLD = """
    import importlib.util, os, sys
    from pathlib import Path
    spec = importlib.util.spec_from_file_location("alias", sys.argv[1])
    alias = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alias)
    alias.load_package()
    from luna_collection.luna_daemon.instance_lock import *
    lock = InstanceLock(Path(sys.argv[2]), 1)
    lock.acquire()
    lock.publish(InstanceRecord(os.getpid(), own_start_time(), "boot", "127.0.0.1", 1, "log"))
    print("held", flush=True)
    sys.stdin.read()
    lock.release()
"""


def record(pid: int | None = None, started_at: float | None = None) -> InstanceRecord:
    return InstanceRecord(
        pid=os.getpid() if pid is None else pid,
        started_at=own_start_time() if started_at is None else started_at,
        boot_id="b",
        host="127.0.0.1",
        port=19283,
        log_path="/log",
    )


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[InstanceLock]:
    """The lock of port 1, not taken."""
    lock = InstanceLock(tmp_path, 1)
    yield lock
    lock.release()


@pytest.fixture
def holder(tmp_path: Path, root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has taken the lock of port 1."""
    alias = root / "luna_daemon" / "package_alias.py"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(alias), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_cannot_take_the_lock(
    lock: InstanceLock, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        lock.acquire()
    assert refused.value.message == f"A Luna daemon already runs here (process {holder.pid})."
    assert "luna-daemon stop" in refused.value.hint


def test_the_record_of_a_daemon_that_was_killed_is_not_taken_for_the_holders(
    tmp_path: Path, lock, dead: int
) -> None:
    InstanceLock(tmp_path, 1).publish(record(pid=dead))
    lock.acquire()
    with pytest.raises(ConfigError) as refused:
        InstanceLock(tmp_path, 1).acquire()
    assert refused.value.message == "A Luna daemon already runs here."


def test_a_second_lock_of_one_process_cannot_take_it_either(tmp_path: Path, lock) -> None:
    lock.acquire()
    with pytest.raises(ConfigError) as refused:
        InstanceLock(tmp_path, 1).acquire()
    assert refused.value.message == "A Luna daemon already runs here."


def test_who_did_not_get_the_lock_leaves_the_record_of_its_holder(
    lock: InstanceLock, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(ConfigError):
        lock.acquire()
    lock.release()
    assert read_record(lock.record_path).pid == holder.pid


def test_daemons_of_other_ports_and_folders_do_not_mind(
    tmp_path: Path, lock: InstanceLock, holder: subprocess.Popen[str]
) -> None:
    (tmp_path / "other").mkdir()
    for other in (InstanceLock(tmp_path, 2), InstanceLock(tmp_path / "other", 1)):
        other.acquire()
        other.release()


def test_the_lock_of_a_process_that_was_killed_is_free(
    lock: InstanceLock, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait(60)
    lock.acquire()


def test_the_record_of_a_process_that_was_killed_shows_that_it_is_dead(
    lock: InstanceLock, holder: subprocess.Popen[str]
) -> None:
    alive = read_record(lock.record_path).is_alive
    holder.kill()
    holder.wait(60)
    assert (alive, read_record(lock.record_path).is_alive) == (True, False)


def test_a_released_lock_can_be_taken_again(lock: InstanceLock) -> None:
    lock.acquire()
    lock.release()
    lock.acquire()


def test_a_record_is_read_as_it_was_published(lock: InstanceLock) -> None:
    lock.publish(record())
    assert read_record(lock.record_path) == record()


def test_publishing_again_replaces_the_record(lock: InstanceLock) -> None:
    lock.publish(record())
    lock.publish(dataclasses.replace(record(), boot_id="second"))
    assert read_record(lock.record_path).boot_id == "second"


def test_publishing_leaves_no_half_written_file(lock: InstanceLock) -> None:
    lock.publish(record())
    assert [path.name for path in lock.record_path.parent.glob("*.part")] == []


def test_releasing_removes_the_record(lock: InstanceLock) -> None:
    lock.acquire()
    lock.publish(record())
    lock.release()
    assert read_record(lock.record_path) is None


GOOD = dataclasses.asdict(record())
BAD = {
    "empty": b"",
    "half": json.dumps(GOOD).encode()[:-5],
    "no JSON": b"hello",
    "no UTF-8": b"\xff\xfe",
    "a list": b"[1]",
    "nothing": b"null",
    "a field less": json.dumps({k: v for k, v in GOOD.items() if k != "pid"}).encode(),
    "a text as process id": json.dumps({**GOOD, "pid": "7"}).encode(),
    "a text as time": json.dumps({**GOOD, "started_at": "now"}).encode(),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "daemon-1.json"
    path.write_bytes(content)
    assert read_record(path) is None


def test_a_record_of_a_newer_version_with_more_fields_is_read(tmp_path: Path) -> None:
    path = tmp_path / "daemon-1.json"
    path.write_text(json.dumps({**GOOD, "news": 1}))
    assert read_record(path) == record()


def test_a_missing_record_is_none(tmp_path: Path) -> None:
    assert read_record(tmp_path / "daemon-1.json") is None


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    return process.pid


def test_this_process_is_alive() -> None:
    assert (is_alive(os.getpid()), record().is_alive) == (True, True)


def test_a_process_that_has_ended_is_not_alive(dead: int) -> None:
    assert (is_alive(dead), record(pid=dead).is_alive) == (False, False)


@pytest.mark.parametrize("seconds", [-3600.0, -2.0, 2.0, 3600.0])
def test_another_process_that_got_the_same_id_is_not_taken_for_it(seconds: float) -> None:
    assert record(started_at=own_start_time() + seconds).is_alive is False


def test_a_start_time_need_not_be_exact_to_the_last_digit() -> None:
    assert record(started_at=own_start_time() + 0.01).is_alive is True


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no zombies")
def test_a_process_that_nobody_has_waited_for_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout.read() == b""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(process.pid) is False
    process.communicate()


@pytest.mark.parametrize("pid", [-1, 10**20], ids=["negative", "huge"])
def test_an_id_that_no_process_can_have_is_not_alive(pid: int) -> None:
    assert is_alive(pid) is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the kernel keeps it")
def test_setting_the_clock_does_not_make_a_daemon_look_dead(monkeypatch) -> None:
    before = record()
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: real(self) + 3600)
    assert before.is_alive is True


def test_the_start_time_of_a_process_that_has_ended_is_not_guessed() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    seen = psutil.Process(process.pid)
    process.wait()
    with pytest.raises(psutil.NoSuchProcess):
        start_time(seen)


@pytest.mark.parametrize("change", ["replace", "unlink"])
def test_a_record_that_somebody_reads_just_now_is_changed_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Windows refuses to replace and to remove a file that is open elsewhere."""
    lock = InstanceLock(tmp_path, 1)
    lock.acquire()
    refusals = iter([PermissionError(), PermissionError()])
    owner = os if change == "replace" else Path
    usual = getattr(owner, change)

    def refused_twice(*args: object, **options: object) -> object:
        for error in refusals:
            raise error
        return usual(*args, **options)

    monkeypatch.setattr(owner, change, refused_twice)
    lock.publish(record())
    assert read_record(lock.record_path) == record()
    lock.release()
    assert not lock.record_path.exists()


def test_a_record_that_cannot_be_removed_does_not_keep_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = InstanceLock(tmp_path, 1)
    lock.acquire()
    lock.publish(record())
    with monkeypatch.context() as patch:
        patch.setattr("luna_collection.luna_daemon.instance_lock._READING_S", 0.02)

        def refused(self: Path, missing_ok: bool = False) -> None:
            raise PermissionError

        patch.setattr(Path, "unlink", refused)
        lock.release()
    InstanceLock(tmp_path, 1).acquire()
