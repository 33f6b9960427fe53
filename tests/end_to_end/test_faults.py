"""Workers and daemons that die, hang, or do not even start. Not here: a clock that jumps, which a test
cannot bring about without harming the machine (every wait counts monotonic time)."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from luna_collection.luna_daemon.client import DaemonClient
from luna_collection.luna_daemon.config_sources import resolve
from luna_collection.luna_daemon.errors import (
    ConnectionLostError,
    DaemonError,
    DaemonUnreachableError,
    DeadlineError,
    DrainingError,
    RejectedError,
    WorkerDiedError,
)

from .conftest import (
    LAUNCHER,
    SD15,
    SDXL,
    Background,
    Daemon,
    kill_9,
    latents,
    shared_memory_names,
    wait_until,
)
from .footprint import no_trace_in, serve_one
from .peers import tcp_port

Start = Callable[..., Daemon]
needs_sigstop = pytest.mark.skipif(
    not hasattr(signal, "SIGSTOP"), reason="this platform cannot stop a process"
)
# Ends every worker while Python starts it, as long as the file beside it is there.
_DEADLY_SITE = """
import os, pathlib, sys
if "worker" in sys.orig_argv and pathlib.Path(__file__).with_name("deadly").exists():
    os._exit(3)
"""


def is_busy(daemon: Daemon) -> bool:
    return any(worker["state"] == "busy" for worker in daemon.workers())


def workers_of(daemon: Daemon) -> list[psutil.Process]:
    """The worker processes, also those that are only starting."""
    children = psutil.Process(daemon.process.pid).children()
    return [child for child in children if "worker" in child.cmdline()]


@needs_sigstop
def test_a_worker_killed_while_it_loads_costs_one_retry(start_daemon: Start) -> None:
    daemon = start_daemon()
    with no_trace_in(daemon):
        daemon.client().get_model_proxies("running", "SDXL", SDXL)
        deaths = daemon.workers()[0]["deaths"]
        worker = daemon.worker_pid()
        os.kill(worker, signal.SIGSTOP)  # the model that is asked for now cannot be loaded
        client = daemon.client()
        registering = Background(lambda: client.get_model_proxies("w", "SD1.5", SD15))
        wait_until(lambda: is_busy(daemon))
        kill_9(worker)
        registering.result()
        assert client.clip_encode("a", workflow_id="w").cond.shape[0] == 1
        assert daemon.workers()[0]["deaths"] == deaths + 1


def test_a_worker_killed_while_it_starts_is_started_once_more(start_daemon: Start) -> None:
    daemon = start_daemon()
    client = daemon.client()
    registering = Background(lambda: client.get_model_proxies("w", "SDXL", SDXL))
    wait_until(lambda: len(workers_of(daemon)) == 1)
    kill_9(workers_of(daemon)[0].pid)
    registering.result()
    assert [worker["deaths"] for worker in daemon.workers()] == [1]
    assert client.vae_decode(latents(), workflow_id="w").shape == (1, 128, 128, 3)
    with no_trace_in(daemon):
        pass


def test_a_worker_that_ends_at_each_start_is_given_up_and_the_daemon_answers_on(
    start_daemon: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_DEADLY_SITE)
    (tmp_path / "deadly").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    daemon = start_daemon()
    watching = daemon.client()
    asking = Background(lambda: daemon.client().get_model_proxies("w", "SDXL", SDXL))
    for _ in range(20):
        started = time.monotonic()
        watching.ping()
        assert watching.status()["state"] == "running"
        assert time.monotonic() - started < 5
    with pytest.raises(WorkerDiedError, match=r"did not start.* luna-daemon logs"):
        asking.result()
    for _ in range(2):
        with pytest.raises(WorkerDiedError, match="did not start"):
            daemon.client().get_model_proxies("w", "SDXL", SDXL)
    with pytest.raises(WorkerDiedError, match="died too often"):
        daemon.client().get_model_proxies("w", "SDXL", SDXL)
    assert daemon.workers()[0]["deaths"] == 6
    assert workers_of(daemon) == []


def test_a_worker_that_starts_again_after_the_cause_is_gone_serves(
    start_daemon: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_DEADLY_SITE)
    (tmp_path / "deadly").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    daemon = start_daemon()
    with pytest.raises(WorkerDiedError, match="did not start"):
        daemon.client().get_model_proxies("w", "SDXL", SDXL)
    (tmp_path / "deadly").unlink()
    with no_trace_in(daemon):
        daemon.client().get_model_proxies("w", "SDXL", SDXL)


@needs_sigstop
def test_a_worker_that_was_ended_for_its_silence_leaves_no_zombie(start_daemon: Start) -> None:
    daemon = start_daemon(heartbeat_timeout_s=2)
    with no_trace_in(daemon):
        worker = daemon.worker_pid()
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: not psutil.pid_exists(worker))


def test_arenas_of_workers_that_died_are_given_back(start_daemon: Start) -> None:
    daemon = start_daemon()
    supervisor = psutil.Process(daemon.process.pid)

    def arenas_of(pid: int) -> int:
        return sum(
            "luna-arena" in one.path for one in psutil.Process(pid).memory_maps(grouped=False)
        )

    with no_trace_in(daemon):
        client = daemon.client()
        client.get_model_proxies("w", "SDXL", SDXL)
        if client.transport != "memfd":
            pytest.skip("there are no anonymous arenas here")
        expected = client.vae_decode(latents(side=48), workflow_id="w")
        held = (arenas_of(supervisor.pid), arenas_of(os.getpid()), supervisor.num_fds())
        for _ in range(2):
            kill_9(daemon.worker_pid())
            image = client.vae_decode(latents(side=48), workflow_id="w")
            assert torch.equal(image, expected)
        now = (arenas_of(supervisor.pid), arenas_of(os.getpid()), supervisor.num_fds())
        assert now == held


def test_a_daemon_killed_with_named_shared_memory_leaves_no_process_and_no_name(
    start_daemon: Start,
) -> None:
    before = shared_memory_names()
    daemon = start_daemon()
    config = resolve(
        {
            "port": tcp_port(daemon),
            "runtime_dir": daemon.folder,
            "socket_path": Path("/nonexistent/s"),
        },
        env={},
    ).config
    client = DaemonClient(config=config)
    client.get_model_proxies("w", "SDXL", SDXL)
    assert client.transport == "named"
    family = psutil.Process(daemon.process.pid).children(recursive=True)
    daemon.kill()
    with pytest.raises(ConnectionLostError):
        client.vae_decode(latents(), workflow_id="w")
    client.close()
    again = start_daemon(folder=daemon.folder)
    assert psutil.wait_procs(family, timeout=30)[1] == []
    wait_until(lambda: shared_memory_names() <= before)
    with no_trace_in(again):
        pass


@pytest.mark.parametrize("drain_timeout_s", [0, 60])
def test_a_daemon_stopped_while_a_worker_starts_leaves_nothing(
    start_daemon: Start, drain_timeout_s: int, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = start_daemon(drain_timeout_s=drain_timeout_s)
    client = daemon.client()
    registering = Background(lambda: client.get_model_proxies("w", "SDXL", SDXL))
    wait_until(lambda: len(workers_of(daemon)) == 1)
    family = workers_of(daemon)
    with DaemonClient(config=daemon.config) as other:
        other.stop_daemon()
    assert daemon.process.wait(timeout=90) == 0
    with pytest.raises((ConnectionLostError, DrainingError)):
        registering.result()
    assert psutil.wait_procs(family, timeout=2)[1] == []
    assert "Traceback" not in daemon.log.read_text()
    assert "instead of" not in caplog.text, "the shared memory was not at fault"
    serve_one(start_daemon(folder=daemon.folder))


def test_a_daemon_stopped_while_clients_wait_ends_their_calls(start_daemon: Start) -> None:
    daemon = start_daemon(drain_timeout_s=0)
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)

    def decode(side: int) -> Background:  # of different sizes, which are not taken together
        return Background(lambda: client.vae_decode(latents(batch=8, side=side), workflow_id="w"))

    calls = [decode(side) for side in (64, 60, 56)]
    wait_until(lambda: is_busy(daemon) and daemon.status()["devices"]["cpu"]["waiting"] == 2)
    family = psutil.Process(daemon.process.pid).children(recursive=True)
    with DaemonClient(config=daemon.config) as other:
        other.stop_daemon()
    for call in calls:
        with pytest.raises(DaemonError) as caught:
            call.result()
        assert caught.value.retryable
    assert daemon.process.wait(timeout=60) == 0
    assert psutil.wait_procs(family, timeout=10)[1] == []
    serve_one(start_daemon(folder=daemon.folder))


def test_of_two_daemons_started_at_once_one_wins_and_the_other_says_so(tmp_path: Path) -> None:
    command = [sys.executable, str(LAUNCHER), "--port=0", f"--runtime-dir={tmp_path / 'd'}"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    wait_until(lambda: any(one.poll() is not None for one in both), 60)
    loser, winner = sorted(both, key=lambda one: one.poll() is None)
    said = loser.communicate(timeout=30)[1]
    assert loser.returncode == 3
    assert "A Luna daemon already runs here" in said
    assert "Traceback" not in said
    config = resolve({"port": 0, "runtime_dir": tmp_path / "d"}, env={}).config

    def answers() -> bool:
        with DaemonClient(config=config) as client:
            try:
                return client.status()["pid"] == winner.pid
            except DaemonUnreachableError:
                return False

    wait_until(answers)
    with DaemonClient(config=config) as client:
        client.stop_daemon()
    winner.communicate(timeout=30)
    assert winner.returncode == 0


@needs_sigstop
def test_a_daemon_that_hangs_holds_up_no_call_beyond_its_deadline(start_daemon: Start) -> None:
    daemon = start_daemon(transport="inline")
    with no_trace_in(daemon):
        client = daemon.client()
        client.get_model_proxies("w", "SDXL", SDXL)
        images = torch.rand(4, 512, 512, 3)  # more than the sockets hold
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(DeadlineError):
                client.vae_encode(images, workflow_id="w", timeout_s=1)
            with pytest.raises(DaemonUnreachableError, match="does not answer"):
                daemon.client().ping()
            assert time.monotonic() - started < 1 + daemon.config.connect_timeout_s + 5
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        assert client.vae_encode(images[:1], workflow_id="w").shape == (1, 4, 64, 64)


@needs_sigstop
def test_a_patient_client_waits_for_long_work_but_not_for_a_daemon_that_hangs(
    start_daemon: Start,
) -> None:
    daemon = start_daemon()
    config = dataclasses.replace(daemon.config, request_timeout_s=0.2, connect_timeout_s=2)
    with no_trace_in(daemon):
        client = daemon.client(config=config, patient=True)
        client.get_model_proxies("w", "SDXL", SDXL)
        long = latents(batch=6, side=64)
        assert client.vae_decode(long, workflow_id="w").shape == (6, 512, 512, 3)
        other = daemon.client(config=config)
        other.get_model_proxies("x", "SDXL", SDXL)
        with pytest.raises(DeadlineError):
            other.vae_decode(long, workflow_id="x")
        call = Background(lambda: client.vae_decode(long, workflow_id="w"))
        wait_until(lambda: is_busy(daemon))
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(DaemonUnreachableError, match="does not answer"):
                call.result()
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        wait_until(lambda: not is_busy(daemon))
        assert client.vae_decode(latents(), workflow_id="w").shape == (1, 128, 128, 3)


def test_a_full_queue_rejects_with_a_time_to_wait_and_the_others_go_on(start_daemon: Start) -> None:
    daemon = start_daemon(max_queue=1)
    with no_trace_in(daemon):
        client, other = daemon.client(), daemon.client()
        client.get_model_proxies("w", "SDXL", SDXL)
        other.get_model_proxies("x", "SDXL", SDXL)
        big = latents(batch=6, side=64)
        running = Background(lambda: client.vae_decode(big, workflow_id="w"))
        wait_until(lambda: is_busy(daemon))
        waiting = Background(lambda: client.clip_encode("b", workflow_id="w"))
        wait_until(lambda: daemon.status()["devices"]["cpu"]["waiting"] == 1)
        with pytest.raises(RejectedError, match="1 requests wait already") as caught:
            other.clip_encode("c", workflow_id="x")
        assert caught.value.retryable
        assert caught.value.retry_after_s > 0
        other.ping()
        assert running.result().shape == (6, 512, 512, 3)
        assert waiting.result().cond.shape[0] == 1
        assert other.clip_encode("c", workflow_id="x").cond.shape[0] == 1
