"""Clients that break the rules, are stopped, do not listen, or are killed: they harm themselves alone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import torch
from luna_collection.luna_daemon.errors import BadRequestError, CanceledError, ConnectionLostError
from luna_collection.luna_daemon.protocol import messages as m
from luna_collection.luna_daemon.protocol.codec import encode
from luna_collection.luna_daemon.protocol.framing import frame_head
from luna_collection.luna_daemon.protocol.segments import Segment
from luna_collection.luna_daemon.protocol.work import DecodeLatent, EncodeText, Tiling

from .conftest import SDXL, Background, Daemon, kill_9, latents, wait_until
from .footprint import no_trace_in
from .peers import ClientProcess, RawPeer, tcp_port

needs_sigstop = pytest.mark.skipif(
    not hasattr(signal, "SIGSTOP"), reason="this platform cannot stop a process"
)


def run_text(request_id: int, workflow_id: str = "raw", **fields: Any) -> m.Run:
    return m.Run(
        id=request_id,
        workflow_id=workflow_id,
        work=EncodeText(texts=("a",)),
        deadline_s=60,
        idempotency_key=f"raw {request_id}",
        **fields,
    )


def register(request_id: int) -> m.RegisterWorkflow:
    return m.RegisterWorkflow(id=request_id, workflow_id="raw", model_type="SDXL", models=SDXL)


def is_quick(call: Callable[[], object], seconds: float = 10.0) -> bool:
    started = time.monotonic()
    call()
    return time.monotonic() - started < seconds


def sessions(daemon: Daemon) -> int:
    return len(daemon.status()["sessions"]) - 1  # one asks


def test_a_proof_that_was_overheard_lets_nobody_in(daemon: Daemon) -> None:
    with no_trace_in(daemon):
        with RawPeer(daemon, tcp=True) as owner:
            assert isinstance(owner.hello(), m.Welcome)
            overheard = owner.proof
        assert overheard is not None
        with RawPeer(daemon, tcp=True) as thief:
            versions = m.Versions(package="0", protocol=m.PROTOCOL_VERSIONS)
            thief.send(m.Hello(versions=versions, nonce="0" * 64, pid=1, tiers=()))
            assert isinstance(thief.receive(), m.Challenge)
            thief.send(overheard)
            answer = thief.receive()
            assert isinstance(answer, m.Failure)
            assert answer.code == "AUTH"
            with pytest.raises(ConnectionLostError):
                thief.receive()


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_a_client_of_another_protocol_version_is_told_so(daemon: Daemon, tcp: bool) -> None:
    with no_trace_in(daemon), RawPeer(daemon, tcp=tcp) as peer:
        answer = peer.hello(protocol=(99, 99))
        assert isinstance(answer, m.Failure)
        assert answer.code == "INCOMPATIBLE"
        assert "speaks protocol versions 99 to 99" in answer.message
        assert "restart" in answer.hint


def test_a_hello_that_comes_byte_by_byte_is_cut_off(daemon: Daemon) -> None:
    versions = m.Versions(package="0", protocol=m.PROTOCOL_VERSIONS)
    hello = encode(m.Hello(versions=versions, nonce="0" * 64, pid=1, tiers=()))
    with no_trace_in(daemon), RawPeer(daemon, tcp=True) as peer:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in frame_head(hello):
                peer.sock.sendall(bytes([byte]))
                time.sleep(0.1)
                if peer.connection._readable(0):
                    break
        assert isinstance(peer.receive(), m.Failure)
        assert time.monotonic() - started < daemon.config.handshake_timeout_s + 3


def test_a_flood_of_nonsense_is_refused_once(daemon: Daemon) -> None:
    with no_trace_in(daemon):
        counted = "connections_refused{reason=BAD_REQUEST}"
        before = daemon.status()["counters"].get(counted, 0)
        with socket.create_connection(("127.0.0.1", tcp_port(daemon))) as sock:
            sock.sendall(b"\x00\x00\x00\x02{}" * 10_000)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(65536):
                    pass
        assert daemon.status()["counters"][counted] == before + 1


@pytest.mark.parametrize(
    "half",
    [
        b"\x00\x00",
        b"\x00\x00\x00\x40{",
        frame_head(
            b'{"type":"ping","id":1,"segments":'
            b'[{"dtype":"uint8","shape":[9],"order":[0],"nbytes":9}]}'
        ),
    ],
    ids=["length", "header", "segments"],
)
def test_a_client_that_dies_inside_a_message_leaves_nothing(daemon: Daemon, half: bytes) -> None:
    with no_trace_in(daemon), RawPeer(daemon) as peer:
        assert isinstance(peer.hello(), m.Welcome)
        peer.sock.sendall(half)


def test_a_request_that_makes_no_sense_harms_none_of_its_connections_others(daemon: Daemon) -> None:
    with no_trace_in(daemon):
        client = daemon.client()
        client.get_model_proxies("w", "SDXL", SDXL)
        long = latents(batch=6, side=64)
        expected = client.vae_decode(long, workflow_id="w")
        running = Background(lambda: client.vae_decode(long, workflow_id="w"))
        wait_until(lambda: any(w["state"] == "busy" for w in daemon.workers()))
        for bad in (
            lambda: client.clip_encode("a", workflow_id="w", clip_skip=99),
            lambda: client.clip_encode((), workflow_id="w"),
            lambda: client.clip_encode("half a character \ud800", workflow_id="w"),
            lambda: client.clip_encode("a", workflow_id=""),
            lambda: client.get_model_proxies("w", "SDXL", {}),
            lambda: client.vae_decode(latents(), workflow_id="w", tiling=Tiling(tile=1)),
        ):
            with pytest.raises(BadRequestError):
                bad()
        assert torch.equal(running.result(), expected)
        assert sessions(daemon) == 1, "the connection is still the same one"


def test_a_released_workflow_may_have_lost_its_connection_before(daemon: Daemon) -> None:
    with no_trace_in(daemon):
        client = daemon.client()
        client.get_model_proxies("lost", "SDXL", SDXL)
        client._links.live[0]._connection.close()
        client.release("lost")
        client.ping()


def test_a_release_after_the_end_opens_no_new_connection(daemon: Daemon) -> None:
    """What a garbage collector finds late is given up late, as with ComfyUI's graphs."""
    with no_trace_in(daemon):
        client = daemon.client()
        client.get_model_proxies("late", "SDXL", SDXL)
        client.close()
        client.release("late")
        assert not client.is_connected


def test_a_client_killed_while_its_request_waits_is_forgotten(daemon: Daemon) -> None:
    with no_trace_in(daemon):
        busy = daemon.client()
        busy.get_model_proxies("w", "SDXL", SDXL)
        doomed = ClientProcess(
            daemon,
            """
            say("ready")
            input()
            client.vae_encode(torch.rand(4, 256, 256, 3), workflow_id="process")
            """,
        )
        with doomed:
            assert doomed.hear() == "ready"
            running = Background(
                lambda: busy.vae_decode(latents(batch=6, side=64), workflow_id="w")
            )
            wait_until(lambda: any(w["state"] == "busy" for w in daemon.workers()))
            doomed.tell()
            wait_until(lambda: daemon.status()["devices"]["cpu"]["waiting"] == 1)
            kill_9(doomed.pid)
        wait_until(lambda: daemon.status()["devices"]["cpu"]["waiting"] == 0)
        assert running.result().shape == (6, 512, 512, 3)
        wait_until(lambda: sessions(daemon) == 1)


@needs_sigstop
def test_a_stopped_client_does_not_block_the_others_even_on_a_new_worker(daemon: Daemon) -> None:
    script = """
        latent = torch.randn(1, 4, 48, 48, generator=torch.Generator().manual_seed(0))
        for _ in range(1000):
            image = client.vae_decode(latent, workflow_id="process")
            say("image")
    """
    with no_trace_in(daemon), ClientProcess(daemon, script) as stopped:
        client = daemon.client()
        client.get_model_proxies("w", "SDXL", SDXL)
        assert stopped.hear() == "image"
        os.kill(stopped.pid, signal.SIGSTOP)
        assert is_quick(lambda: client.vae_decode(latents(), workflow_id="w"))
        kill_9(daemon.worker_pid())
        client.vae_decode(latents(), workflow_id="w")  # starts the next worker
        assert is_quick(lambda: client.vae_decode(latents(), workflow_id="w"))
        os.kill(stopped.pid, signal.SIGCONT)
        for _ in range(50):
            assert stopped.hear() == "image"


def test_a_client_that_takes_no_messages_does_not_hold_up_the_worker(daemon: Daemon) -> None:
    with no_trace_in(daemon):
        client = daemon.client()
        client.get_model_proxies("w", "SDXL", SDXL)
        with RawPeer(daemon, receive_buffer=4096) as deaf:
            assert isinstance(deaf.hello(tiers=("memfd", "inline")), m.Welcome)
            deaf.send(register(1))
            while not isinstance(deaf.receive(60), m.Registered):
                pass
            for number in range(2, 200):  # their answers fill the way back
                deaf.send(m.GetStatus(id=number))
            deaf.send(run_text(1000, reply_tier="memfd"))  # and this one asks for an arena
            time.sleep(1)
            assert is_quick(lambda: client.clip_encode("others go on", workflow_id="w"))
            assert is_quick(lambda: client.vae_decode(latents(), workflow_id="w"))


def test_a_client_that_asks_and_never_listens_cannot_fill_the_daemons_memory(
    daemon: Daemon,
) -> None:
    supervisor = psutil.Process(daemon.process.pid)
    with no_trace_in(daemon), RawPeer(daemon) as deaf:
        assert isinstance(deaf.hello(), m.Welcome)
        before = supervisor.memory_info().rss
        deaf.sock.setblocking(False)
        ends = time.monotonic() + 3
        number, piece = 1, b""
        while time.monotonic() < ends:
            if not piece:
                piece = b"".join(frame_head(encode(m.Ping(id=number + i))) for i in range(500))
                number += 500
            try:
                piece = piece[deaf.sock.send(piece) :]
            except BlockingIOError:
                time.sleep(0.01)
        assert supervisor.memory_info().rss - before < 16 * 2**20
        assert is_quick(lambda: daemon.client().ping())


@pytest.mark.timeout(180)
def test_a_client_that_never_reads_its_replies_is_cut_off(daemon: Daemon) -> None:
    big = latents(batch=3, side=64).numpy().tobytes()
    segment = Segment(dtype="float32", shape=(3, 4, 64, 64), order=(0, 1, 2, 3), nbytes=len(big))
    with no_trace_in(daemon):
        client = daemon.client()
        client.get_model_proxies("w", "SDXL", SDXL)
        with RawPeer(daemon, receive_buffer=4096) as deaf:
            assert isinstance(deaf.hello(), m.Welcome)
            deaf.send(register(1))
            while not isinstance(deaf.receive(60), m.Registered):
                pass
            for number in range(2, 5):
                request = m.Run(
                    id=number,
                    workflow_id="raw",
                    work=DecodeLatent(latent=0),
                    deadline_s=60,
                    idempotency_key=f"deaf {number}",
                    segments=(segment,),
                )
                deaf.connection.send(encode(request), [memoryview(big)])
            while sessions(daemon) == 2:
                assert is_quick(lambda: client.clip_encode("others go on", workflow_id="w"), 30)
                time.sleep(1)


def test_cancelling_a_request_again_and_again_does_no_harm(daemon: Daemon) -> None:
    with no_trace_in(daemon), RawPeer(daemon) as peer:
        assert isinstance(peer.hello(), m.Welcome)
        peer.send(register(1))
        while not isinstance(peer.receive(60), m.Registered):
            pass
        peer.send(run_text(2))
        for number in (2, 2, 2, 3, 2**53):
            peer.send(m.Cancel(id=number))
        answer = peer.receive()
        assert isinstance(answer, (m.RunDone, m.Failure))
        assert getattr(answer, "code", CanceledError.code) == CanceledError.code
        peer.send(m.Ping(id=4))
        assert peer.receive() == m.Pong(id=4)
