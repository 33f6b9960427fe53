"""Things die, files are damaged, peers misbehave: at most a retry is lost, and the next request is served."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from luna_collection.luna_daemon.client import DaemonClient
from luna_collection.luna_daemon.config_sources import resolve
from luna_collection.luna_daemon.errors import (
    AuthError,
    BadRequestError,
    CanceledError,
    ConnectionLostError,
    DaemonError,
    DaemonUnreachableError,
    DeadlineError,
    DrainingError,
    NotFoundError,
    WorkerDiedError,
)

from .conftest import LAUNCHER, SD15, SDXL, Background, Daemon, kill_9, latents, wait_until

SLOW = {"batch": 12, "side": 64}  # a decode of many seconds


def start_slow_decode(daemon: Daemon, client: DaemonClient, **options: Any) -> Background:
    """Begin a decode that takes long, and return once a worker is at it."""
    call = Background(lambda: client.vae_decode(latents(**SLOW), workflow_id="w", **options))
    wait_until(lambda: any(w["state"] == "busy" for w in daemon.workers()))
    return call


def assert_serves(daemon: Daemon) -> None:
    with DaemonClient(config=daemon.config) as client:
        client.get_model_proxies("after", "SDXL", SDXL)
        assert client.vae_decode(latents(), workflow_id="after").shape == (1, 128, 128, 3)


def test_a_worker_killed_at_work_costs_one_retry_and_no_result(start_daemon: Any) -> None:
    daemon = start_daemon()
    notes: list[str] = []
    client = daemon.client(on_note=notes.append)
    client.get_model_proxies("w", "SDXL", SDXL)
    latent = latents(batch=8, side=48)
    expected = client.vae_decode(latent, workflow_id="w")
    call = Background(lambda: client.vae_decode(latent, workflow_id="w"))
    wait_until(lambda: any(w["state"] == "busy" for w in daemon.workers()))
    killed = daemon.worker_pid()
    kill_9(killed)
    assert torch.equal(call.result(), expected)
    assert daemon.worker_pid() != killed
    assert [w["deaths"] for w in daemon.workers()] == [1]
    assert any("once more" in note for note in notes)
    assert not psutil.pid_exists(killed) or psutil.Process(killed).status() == psutil.STATUS_ZOMBIE


def test_a_request_that_ends_two_workers_fails_and_the_next_one_is_served(
    start_daemon: Any,
) -> None:
    daemon = start_daemon()
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    call = start_slow_decode(daemon, client)
    first = daemon.worker_pid()
    kill_9(first)
    wait_until(
        lambda: any(w["pid"] not in (None, first) and w["models"] for w in daemon.workers()), 60
    )
    kill_9(daemon.worker_pid())
    with pytest.raises(WorkerDiedError, match="ended while it worked"):
        call.result()
    assert_serves(daemon)


def test_an_idle_worker_that_dies_is_replaced_with_the_next_request(start_daemon: Any) -> None:
    daemon = start_daemon()
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    before = client.clip_encode("a", workflow_id="w").cond
    kill_9(daemon.worker_pid())
    assert torch.equal(client.clip_encode("a", workflow_id="w").cond, before)


def test_a_stopped_worker_is_noticed_and_replaced(start_daemon: Any) -> None:
    if not hasattr(signal, "SIGSTOP"):
        pytest.skip("this platform cannot stop a process")
    daemon = start_daemon(heartbeat_timeout_s=2)
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    os.kill(daemon.worker_pid(), signal.SIGSTOP)
    assert client.vae_decode(latents(), workflow_id="w").shape == (1, 128, 128, 3)
    assert [w["deaths"] for w in daemon.workers()] == [1]


def test_workers_end_when_the_daemon_is_killed(start_daemon: Any) -> None:
    daemon = start_daemon()
    daemon.client().get_model_proxies("w", "SDXL", SDXL)
    worker = daemon.worker_pid()
    daemon.kill()
    wait_until(
        lambda: (
            not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE
        )
    )


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no SIGTERM that a process can catch"
)
def test_sigterm_lets_running_work_finish_and_refuses_new_work(start_daemon: Any) -> None:
    daemon = start_daemon()
    client, other = daemon.client(), daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    other.get_model_proxies("w", "SDXL", SDXL)
    call = Background(lambda: client.vae_decode(latents(batch=6, side=64), workflow_id="w"))
    wait_until(lambda: any(w["state"] == "busy" for w in daemon.workers()))
    daemon.process.send_signal(signal.SIGTERM)
    wait_until(lambda: other.status()["state"] == "draining")
    with pytest.raises(DrainingError):
        other.clip_encode("too late", workflow_id="w")
    assert call.result().shape == (6, 512, 512, 3)
    assert daemon.process.wait(timeout=60) == 0
    assert not list(daemon.folder.glob("*.sock"))
    assert not list(daemon.folder.glob("*.json"))


def test_a_client_connects_again_after_the_daemon_was_restarted(start_daemon: Any) -> None:
    daemon = start_daemon()
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    before = client.clip_encode("a lighthouse", workflow_id="w").cond
    daemon.kill()
    with pytest.raises(DaemonUnreachableError, match="Cannot reach the Luna daemon"):
        client.clip_encode("a lighthouse", workflow_id="w")
    start_daemon(folder=daemon.folder)
    assert torch.equal(client.clip_encode("a lighthouse", workflow_id="w").cond, before)


def test_a_client_that_is_killed_leaves_nothing_behind(daemon: Daemon) -> None:
    script = f"""
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("alias", {str(LAUNCHER.with_name("package_alias.py"))!r})
        alias = importlib.util.module_from_spec(spec); spec.loader.exec_module(alias); alias.load_package()
        from pathlib import Path
        import torch
        from luna_collection.luna_daemon.client import DaemonClient
        from luna_collection.luna_daemon.config_sources import resolve
        client = DaemonClient(config=resolve({{"runtime_dir": Path({str(daemon.folder)!r}), "port": 0}}).config)
        client.get_model_proxies("doomed", "SDXL", {SDXL!r})
        print("working", flush=True)
        client.vae_decode(torch.randn(12, 4, 64, 64), workflow_id="doomed")
    """
    doomed = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert doomed.stdout is not None
    assert doomed.stdout.readline() == "working\n"
    wait_until(lambda: any(w["state"] == "busy" for w in daemon.workers()))
    doomed.kill()
    doomed.wait()
    doomed.stdout.close()
    wait_until(lambda: all(w["state"] == "idle" for w in daemon.workers()))
    assert doomed.pid not in {s["pid"] for s in daemon.status()["sessions"]}
    supervisor = psutil.Process(daemon.process.pid)
    wait_until(lambda: not [r for r in supervisor.memory_maps() if "luna-arena" in r.path])
    assert_serves(daemon)


def test_an_interrupt_ends_the_call_and_the_work(daemon: Daemon) -> None:
    class Interrupted(BaseException):
        """As ComfyUI's: not an Exception."""

    pressed: list[bool] = []

    def look() -> None:
        if pressed:
            raise Interrupted

    client = daemon.client(interrupt=look)
    client.get_model_proxies("w", "SDXL", SDXL)
    call = start_slow_decode(daemon, client)
    pressed.append(True)
    with pytest.raises(Interrupted):
        call.result()
    pressed.clear()
    wait_until(lambda: all(w["state"] == "idle" for w in daemon.workers()))
    assert client.vae_decode(latents(), workflow_id="w").shape == (1, 128, 128, 3)
    daemon.close_clients()


def test_a_request_that_waits_can_be_interrupted(daemon: Daemon) -> None:
    class Interrupted(BaseException):
        pass

    def look() -> None:
        raise Interrupted

    busy, waiting = daemon.client(), daemon.client()
    busy.get_model_proxies("w", "SDXL", SDXL)
    waiting.get_model_proxies("x", "SDXL", SDXL)
    waiting._interrupt = look
    call = Background(lambda: busy.vae_decode(latents(batch=6, side=64), workflow_id="w"))
    wait_until(lambda: any(w["state"] == "busy" for w in daemon.workers()))
    with pytest.raises(Interrupted):
        waiting.vae_decode(latents(), workflow_id="x")
    assert call.result().shape == (6, 512, 512, 3)
    daemon.close_clients()


def test_closing_a_client_ends_the_calls_of_its_other_threads(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    call = start_slow_decode(daemon, client)
    before = len(daemon.status()["sessions"])
    client.close()
    with pytest.raises(ConnectionLostError, match="was closed"):
        call.result()
    wait_until(lambda: len(daemon.status()["sessions"]) == before - 1)
    wait_until(lambda: all(w["state"] == "idle" for w in daemon.workers()))


def test_a_deadline_ends_the_call_and_the_next_one_works(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    with pytest.raises(DeadlineError):
        client.vae_decode(latents(**SLOW), workflow_id="w", timeout_s=0.3)
    assert client.vae_decode(latents(), workflow_id="w").shape == (1, 128, 128, 3)
    daemon.close_clients()


def test_release_while_working_ends_nothing_and_errors_keep_their_class(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    with pytest.raises(BadRequestError) as caught:
        client.vae_decode(torch.zeros(1, 7, 8, 8), workflow_id="w")
    assert "4" in str(caught.value)
    assert not isinstance(caught.value, CanceledError)
    assert client.clip_encode("a", workflow_id="w").cond.shape[0] == 1
    daemon.close_clients()


@pytest.mark.parametrize(
    "name",
    [
        "no/such/folder",
        "../sdxl/vae",
        "/etc",
        "sdxl/../../sdxl/vae",
        "sdxl\\vae",
        "",
        "sdxl/vae\0",
        "~",
    ],
)
def test_a_name_that_is_not_below_the_model_folders_is_not_found(daemon: Daemon, name: str) -> None:
    client = daemon.client()
    with pytest.raises((NotFoundError, BadRequestError)) as caught:
        client.get_model_proxies("misnamed", "SD1.5", {**SD15, "vae": name})
    assert str(daemon.folder.parent) not in str(caught.value)
    assert "misnamed" not in {w["workflow_id"] for w in daemon.status()["workflows"]}
    daemon.close_clients()


def test_a_damaged_file_is_named_and_the_daemon_lives_on(
    start_daemon: Any, models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models, tmp_path / "models")
    damaged = next((tmp_path / "models" / "sdxl" / "vae").glob("*.safetensors"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    daemon = start_daemon(model_folder=tmp_path / "models")
    client = daemon.client()
    with pytest.raises(BadRequestError, match=damaged.name):
        client.get_model_proxies("w", "SDXL", SDXL)
    damaged.write_bytes(whole)
    client.get_model_proxies("w", "SDXL", SDXL)
    assert client.vae_decode(latents(), workflow_id="w").shape == (1, 128, 128, 3)


def test_a_file_replaced_under_its_name_is_another_model(
    start_daemon: Any, models: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(models, tmp_path / "models")
    daemon = start_daemon(model_folder=tmp_path / "models")
    client = daemon.client()
    old = client.get_model_proxies("w", "SDXL", SDXL)
    before = client.vae_decode(latents(), workflow_id="w")
    file = next((tmp_path / "models" / "sdxl" / "vae").glob("*.safetensors"))
    changed = {name: tensor * 0.5 for name, tensor in load_file(file).items()}
    save_file(changed, file, metadata={"format": "pt"})
    new = client.get_model_proxies("w", "SDXL", SDXL)
    assert new.keys["vae"] != old.keys["vae"]
    assert new.keys["clip_l"] == old.keys["clip_l"]
    assert not torch.equal(client.vae_decode(latents(), workflow_id="w"), before)


def test_over_tcp_the_right_token_lets_in_and_named_shared_memory_carries(daemon: Daemon) -> None:
    client = DaemonClient(config=tcp_config(daemon))
    client.get_model_proxies("tcp", "SDXL", SDXL)
    assert client.transport == "named"
    unix = daemon.client()
    unix.get_model_proxies("unix", "SDXL", SDXL)
    latent = latents(side=48)
    assert torch.equal(
        client.vae_decode(latent, workflow_id="tcp"), unix.vae_decode(latent, workflow_id="unix")
    )
    client.close()
    daemon.close_clients()


def test_over_tcp_a_wrong_token_is_refused_and_the_daemon_lives_on(
    daemon: Daemon, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    token.chmod(0o600)
    with pytest.raises(AuthError, match="token is wrong"):
        DaemonClient(config=tcp_config(daemon, token_path=token)).ping()
    with pytest.raises(AuthError, match="cannot be read"):
        DaemonClient(config=tcp_config(daemon, token_path=tmp_path / "none")).ping()
    assert daemon.status()["state"] == "running"


def test_a_client_that_skips_the_proof_is_refused(daemon: Daemon) -> None:
    from luna_collection.luna_daemon.protocol import messages as m
    from luna_collection.luna_daemon.protocol.codec import encode, to_client
    from luna_collection.luna_daemon.transport.connection import Connection, Deadline

    connection = Connection(socket.create_connection(("127.0.0.1", tcp_port(daemon))))
    versions = m.Versions(package="0", protocol=(1, 1))
    connection.send(encode(m.Hello(versions=versions, nonce="0" * 64, pid=1, tiers=())))
    assert isinstance(to_client.decode(connection.receive(Deadline(5))), m.Challenge)
    connection.send(encode(m.GetStatus(id=1)))
    answer = to_client.decode(connection.receive(Deadline(5)))
    assert isinstance(answer, m.Failure)
    assert answer.code == "BAD_REQUEST"
    with pytest.raises(DaemonError):
        connection.receive(Deadline(5))
    connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x05nope!",
        os.urandom(4096),
    ],
    ids=["http", "tls", "huge length", "empty message", "not json", "random"],
)
def test_bytes_that_are_not_the_protocol_close_only_their_connection(
    daemon: Daemon, data: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", tcp_port(daemon)), timeout=10) as sock:
        sock.sendall(data)
        received = b""
        try:
            while part := sock.recv(65536):
                received += part
        except ConnectionResetError:
            pass  # closed with our bytes unread: as good as closed
    assert b"result" not in received
    assert daemon.status()["state"] == "running"


def test_a_connection_that_says_nothing_is_closed(start_daemon: Any) -> None:
    daemon = start_daemon(handshake_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", tcp_port(daemon)), timeout=10) as sock:
        received = b""
        while part := sock.recv(65536):
            received += part
    assert b"did not introduce itself" in received


def test_a_tier_that_does_not_carry_the_test_tensor_is_given_up_loudly(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from luna_collection.luna_daemon import link_memory
    from luna_collection.luna_daemon.transport.arena import MEMFD, create_region

    def map_other_memory(fd: int, nbytes: int) -> Any:
        os.close(fd)
        return create_region(MEMFD, nbytes)  # as in a container of its own: nobody else sees it

    monkeypatch.setattr(link_memory, "attach_memfd", map_other_memory)
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    assert client.transport == "inline"
    assert "test tensor" in caplog.text
    assert daemon.status()["counters"]["transport_demotions{tier=memfd}"] == 1
    assert client.vae_decode(latents(side=48), workflow_id="w").shape == (1, 384, 384, 3)
    daemon.close_clients()


def test_the_setting_transport_inline_needs_no_shared_memory(start_daemon: Any) -> None:
    daemon = start_daemon(transport="inline")
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    assert client.transport == "inline"
    assert client.vae_decode(latents(side=48), workflow_id="w").shape == (1, 384, 384, 3)


def test_a_full_arena_falls_back_to_the_message_itself(start_daemon: Any) -> None:
    daemon = start_daemon(arena_mb=1)
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    assert client.vae_decode(latents(side=64), workflow_id="w").shape == (1, 512, 512, 3)
    counters = daemon.status()["counters"]
    assert counters["arena_full"] == 1
    assert counters["bytes{direction=out,tier=inline}"] >= 512 * 512 * 3 * 4


def test_results_that_nobody_waits_for_leave_no_shared_memory_taken(start_daemon: Any) -> None:
    daemon = start_daemon(arena_mb=8)
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    latent = latents(side=64)  # each result takes 3 MB of the 8
    in_the_middle = 0.4 * min(seconds_of(client, latent) for _ in range(4))
    missed = 0
    while missed < 4:  # a client that was held up itself takes a result that came in time
        try:
            client.vae_decode(latent, workflow_id="w", timeout_s=in_the_middle)
        except DeadlineError:
            missed += 1
        wait_until(lambda: all(w["state"] == "idle" for w in daemon.workers()))
    assert client.vae_decode(latent, workflow_id="w").shape == (1, 512, 512, 3)
    assert "arena_full" not in daemon.status()["counters"]


def seconds_of(client: DaemonClient, latent: torch.Tensor) -> float:
    started = time.monotonic()
    client.vae_decode(latent, workflow_id="w")
    return time.monotonic() - started


def test_a_second_daemon_in_the_same_place_says_why_it_ends(daemon: Daemon) -> None:
    second = subprocess.run(
        [sys.executable, str(LAUNCHER), "--port=0", f"--runtime-dir={daemon.folder}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 3
    assert f"already runs here (process {daemon.process.pid})" in second.stderr
    assert "Traceback" not in second.stderr
    assert daemon.status()["state"] == "running"


def test_a_vae_daemon_refuses_text_encoders(start_daemon: Any) -> None:
    daemon = start_daemon(service_type="vae")
    with pytest.raises(BadRequestError, match="does not serve text encoders"):
        daemon.client().get_model_proxies("w", "SD1.5", {"clip_l": SD15["clip_l"]})


def tcp_port(daemon: Daemon) -> int:
    from luna_collection.luna_daemon.instance_lock import read_record

    record = read_record(daemon.folder / "daemon-0.json")
    assert record is not None
    return record.port


def tcp_config(daemon: Daemon, **settings: Any) -> Any:
    """The daemon's address without its unix socket."""
    flags = {
        "port": tcp_port(daemon),
        "runtime_dir": daemon.folder,
        "socket_path": Path("/nonexistent/s"),
        **settings,
    }
    return resolve(flags, env={}).config


def test_a_family_that_only_comfyui_can_encode_for_is_refused_at_once(daemon):
    models = {**SDXL, "t5xxl": "sdxl/text_encoder_2"}
    with pytest.raises(BadRequestError, match="work together in a way that only ComfyUI knows"):
        daemon.client().get_model_proxies("w", "SD3", models)
