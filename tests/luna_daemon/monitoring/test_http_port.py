"""The port for monitoring, on real sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from luna_collection.luna_daemon.config import DaemonConfig
from luna_collection.luna_daemon.errors import ConfigError
from luna_collection.luna_daemon.monitoring.http_port import (
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    HttpPort,
    RefusedError,
    parse_head,
)
from luna_collection.luna_daemon.supervisor import Supervisor

from .exposition_text import parse

SECRET = "/somewhere/luna-secret"


class Answer:
    """A response, read to the end of the connection."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        self.headers = dict(line.split(": ", 1) for line in lines)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """Sends raw bytes to a port."""

    def __init__(self, port: HttpPort) -> None:
        self.port = port.port

    async def send(self, data: bytes) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        try:
            return Answer(await asyncio.wait_for(reader.read(), 20))
        finally:
            writer.close()

    async def get(self, path: str, *headers: str, method: str = "GET") -> Answer:
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *headers]
        return await self.send("\r\n".join([*lines, "", ""]).encode())


def with_port(
    use: Callable[[Caller, Supervisor], Awaitable[None]], head_timeout_s: float = 5.0
) -> None:
    async def run() -> None:
        config = DaemonConfig(device="cpu", runtime_dir=Path(SECRET), model_roots=(Path(SECRET),))
        daemon = Supervisor(config)
        port = HttpPort(daemon, "127.0.0.1", 0, head_timeout_s)
        await port.open()
        try:
            await use(Caller(port), daemon)
            assert (await Caller(port).get("/health")).status == 200, "it serves the next one"
        finally:
            await port.close()
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 40))
    gc.collect()  # a socket that was left open is a warning, and a warning is an error


def test_the_pages_are_what_they_say() -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        daemon.metrics.count("cancelled", 3)
        metrics = await caller.get("/metrics")
        assert (metrics.status, metrics.headers["Content-Type"]) == (
            *(200, "text/plain; version=0.0.4; charset=utf-8"),
        )
        page = parse(metrics.body.decode())
        assert page.value("luna_cancelled_total") == 3
        assert page.value("luna_pending", device="cpu") == 0
        budget = daemon.pool.devices["cpu"].settings.memory.budget.device_bytes
        assert page.value("luna_budget_bytes", device="cpu") == budget
        assert page.value("luna_rss_bytes") > 2**20
        assert page.types["luna_queue_seconds"] == "histogram"
        status = await caller.get("/status")
        assert status.headers["Content-Type"] == "application/json"
        assert status.json["requests"]["cancelled"] == 3
        assert status.json["devices"]["cpu"]["queue_wait"] is None
        health = await caller.get("/health?why=not")
        assert (health.status, health.json) == (200, {"state": "running"})

    with_port(use)


def test_health_tells_that_the_daemon_stops() -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        daemon.draining = True
        health = await caller.get("/health")
        assert (health.status, health.json) == (503, {"state": "draining"})
        daemon.draining = False

    with_port(use)


@pytest.mark.parametrize("path", ["/metrics", "/status", "/health", "/nothing"])
def test_every_answer_is_alone_on_its_connection_and_for_nobody_else(path: str) -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        answer = await caller.get(path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Connection"] == "close"
        assert int(answer.headers["Content-Length"]) == len(answer.body)
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        assert SECRET not in answer.body.decode()

    with_port(use)


@pytest.mark.parametrize("path", ["/metrics", "/nothing"])
def test_head_is_get_without_the_body(path: str) -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        answer = await caller.get(path, method="HEAD")
        assert answer.status == {"/metrics": 200, "/nothing": 404}[path]
        assert int(answer.headers["Content-Length"]) > 0
        assert answer.body == b""

    with_port(use)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
def test_our_own_names_are_let_in(host: str) -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        request = f"GET /health HTTP/1.1\r\nHost: {host}:{caller.port}\r\n\r\n"
        assert (await caller.send(request.encode())).status == 200

    with_port(use)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "localhost.:{port}",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1:{port}0",
        "user@127.0.0.1:{port}",
        "0.0.0.0:{port}",
        "2130706433:{port}",
        "",
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_other_names_are_forbidden(host: str, version: str) -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        named = host.format(port=caller.port)
        answer = await caller.send(f"GET /status HTTP/{version}\r\nHost: {named}\r\n\r\n".encode())
        assert (answer.status, answer.body) == (403, b"Forbidden\n")

    with_port(use)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1:{port}", "http://localhost"]
)
def test_a_request_of_a_web_page_is_forbidden_whatever_its_origin(origin: str) -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        answer = await caller.get("/metrics", f"oRiGiN: {origin.format(port=caller.port)}")
        assert (answer.status, answer.body) == (403, b"Forbidden\n")

    with_port(use)


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"]
)
def test_other_methods_are_not_allowed(method: str) -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        answer = await caller.get("/metrics", method=method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")

    with_port(use)


def test_a_body_is_not_read() -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        head = f"POST /stop HTTP/1.1\r\nHost: 127.0.0.1:{caller.port}\r\nContent-Length: 40\r\n\r\n"
        assert (await caller.send(head.encode() + b"x" * 40)).status == 405
        assert not daemon.stop_requested.is_set()

    with_port(use)


@pytest.mark.parametrize(
    "path", ["/", "//metrics", "/metrics/", "/%6detrics", "/../status", "/STATUS"]
)
def test_other_paths_are_not_found(path: str) -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        assert (await caller.get(path)).status == 404

    with_port(use)


@pytest.mark.parametrize(
    "lines",
    [
        ["GET /health HTTP/1.1"],
        ["GET /health HTTP/1.0"],
        ["GET /health HTTP/1.1", "Host: {own}", "Host: evil.example"],
        ["GET http://127.0.0.1/health HTTP/1.1", "Host: {own}"],
        ["GET /health", "Host: {own}"],
        ["GET /health HTTP/2.0", "Host: {own}"],
        ["get /health HTTP/1.1", "Host: {own}"],
        ["GET  /health HTTP/1.1", "Host: {own}"],
        ["GET /health HTTP/1.1", "Host : {own}"],
        ["GET /health HTTP/1.1", " folded", "Host: {own}"],
        ["GET /health HTTP/1.1", "Host: {own}", "A: b\0c"],
        ["GET /health HTTP/1.1", "Host: {own}", "A: b\nOrigin: c"],
        ["GET /health HTTP/1.1", "Host: {own}", "A"],
        ["", "GET /health HTTP/1.1", "Host: {own}"],
        ["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
    ],
)
def test_what_is_not_a_request_is_a_bad_request(lines: Sequence[str]) -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        text = "\r\n".join([*lines, "", ""]).format(own=f"127.0.0.1:{caller.port}")
        answer = await caller.send(text.encode("latin-1"))
        assert (answer.status, answer.body) == (400, b"Bad Request\n")

    with_port(use)


def test_what_follows_a_request_is_ignored() -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        one = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{caller.port}\r\n\r\n".encode()
        for rest in (one, b"\0\xff" * 20_000):
            answer = await caller.send(one + rest)
            assert (answer.status, answer.json) == (200, {"state": "running"})

    with_port(use)


@pytest.mark.parametrize("nbytes", [MAX_HEAD_BYTES + 8, 9 * 1024, 200_000])
@pytest.mark.parametrize("ended", [True, False])
def test_a_head_that_is_too_long_is_refused(nbytes: int, ended: bool) -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        head = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{caller.port}\r\nA: ".encode()
        head += b"b" * (nbytes - len(head)) + (b"\r\n\r\n" if ended else b"")
        answer = await caller.send(head)
        assert answer.status == 431

    with_port(use)


def test_a_long_head_within_the_bound_is_read() -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        assert (await caller.get("/health", "A: " + "b" * (MAX_HEAD_BYTES - 200))).status == 200

    with_port(use)


def test_a_slow_head_is_cut_off() -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", caller.port)
        dripping = asyncio.create_task(drip(writer))
        answer = Answer(await asyncio.wait_for(reader.read(), 20))
        dripping.cancel()
        writer.close()
        assert answer.status == 408

    async def drip(writer: asyncio.StreamWriter) -> None:
        for letter in b"GET /health HTTP/1.1\r\nA: " + b"b" * 1000:
            writer.write(bytes([letter]))
            await asyncio.sleep(0.05)

    with_port(use, head_timeout_s=0.5)


def test_a_caller_that_leaves_early_harms_nobody() -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        for data in (b"", b"GET", b"GET /status HTTP/1.1\r\n"):
            _, writer = await asyncio.open_connection("127.0.0.1", caller.port)
            writer.write(data)
            writer.close()
        sock = socket.create_connection(("127.0.0.1", caller.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.sendall(f"GET /status HTTP/1.1\r\nHost: 127.0.0.1:{caller.port}\r\n\r\n".encode())
        sock.close()  # with a reset

    with_port(use)


def test_more_callers_than_it_has_places_for_are_turned_away() -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        waiting = [
            await asyncio.open_connection("127.0.0.1", caller.port) for _ in range(MAX_CONNECTIONS)
        ]
        await asyncio.sleep(0.1)
        assert (await caller.get("/health")).status == 503
        for _, writer in waiting:
            writer.close()
        await asyncio.sleep(0.3)

    with_port(use)


def test_a_fault_of_ours_is_told_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def use(caller: Caller, daemon: Supervisor) -> None:
        started, daemon._started = daemon._started, f"{SECRET} 0x7fff"  # type: ignore[assignment]
        answer = await caller.get("/status")
        assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
        daemon._started = started

    with_port(use)
    assert "a page of the monitoring port failed" in caplog.text


def test_closing_ends_what_is_under_way() -> None:
    async def run() -> None:
        port = HttpPort(Supervisor(DaemonConfig(device="cpu")), "127.0.0.1", 0)
        await port.open()
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        await asyncio.sleep(0.05)
        await port.close()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        with pytest.raises(OSError):  # noqa: PT011  (each platform words it in its own way)
            await asyncio.open_connection("127.0.0.1", port.port)

    asyncio.run(run())


def test_a_port_that_is_taken_and_an_address_of_the_world_are_refused() -> None:
    async def run() -> None:
        daemon = Supervisor(DaemonConfig(device="cpu"))
        with (
            socket.create_server(("127.0.0.1", 0)) as other,
            pytest.raises(ConfigError, match="cannot be used"),
        ):
            await HttpPort(daemon, "127.0.0.1", other.getsockname()[1]).open()
        with pytest.raises(ConfigError, match="this machine only"):
            await HttpPort(daemon, "0.0.0.0", 0).open()

    asyncio.run(run())


def test_a_head_is_read_to_its_values() -> None:
    request = parse_head(b"GET /a?b=c HTTP/1.1\r\nHost:  x:1 \r\nX-Y:\r\nX-Z: \xe4, b\r\n\r\n")
    assert (request.method, request.path) == ("GET", "/a?b=c")
    assert request.headers == {"host": "x:1", "x-y": "", "x-z": "ä, b"}


def test_what_is_refused_carries_a_status_and_nothing_else() -> None:
    with pytest.raises(RefusedError) as caught:
        parse_head(b"secret\r\n\r\n")
    assert caught.value.status is HTTPStatus.BAD_REQUEST
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("service", "port", "expected"),
    [("full", 0, 0), ("vae", 0, 0), ("full", 19290, 19290), ("vae", 19290, 19291)],
)
def test_the_second_daemon_of_split_mode_takes_the_next_port(
    service: str, port: int, expected: int
) -> None:
    assert DaemonConfig(service_type=service, metrics_port=port).http_port == expected
