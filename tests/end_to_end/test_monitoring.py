"""What a real daemon tells of itself: metrics, status, health, log. And whom it does not tell."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from luna_collection.luna_daemon.errors import DeadlineError, NotFoundError, RejectedError

from ..luna_daemon.monitoring.exposition_text import Page, parse
from .conftest import LAUNCHER, SDXL, Background, Daemon, kill_9, latents, wait_until

JSON_FIELDS = {"time", "level", "logger", "message"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def send(port: int, data: bytes, *, then_wait: bool = True) -> bytes:
    """Send bytes to a port; return all that comes until the connection's end."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(data)
        got = b""
        while then_wait and (part := sock.recv(65536)):
            got += part
        return got


def head(port: int, *lines: str, first: str = "GET /status HTTP/1.1", host: str = "") -> bytes:
    named = host or f"127.0.0.1:{port}"
    return "\r\n".join([first, f"Host: {named}", *lines, "", ""]).encode()


def get(port: int, path: str) -> bytes:
    answer = send(port, head(port, first=f"GET {path} HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
    return answer.partition(b"\r\n\r\n")[2]


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def page_of(port: int) -> Page:
    return parse(get(port, "/metrics").decode())


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def monitored(
    tmp_path_factory: pytest.TempPathFactory, models: Path, port: int
) -> Iterator[Daemon]:
    running = Daemon(tmp_path_factory.mktemp("d"), models, metrics_port=port)
    yield running
    assert running.stop() == 0, running.log.read_text()


def test_metrics_say_what_was_done(start_daemon: Any) -> None:
    port = free_port()
    daemon = start_daemon(metrics_port=port)
    client = daemon.client()
    client.get_model_proxies("portraits", "SDXL", SDXL)
    for text in ("a", "a", "b"):
        client.clip_encode(text, workflow_id="portraits")
    client.vae_decode(latents(side=48), workflow_id="portraits")
    page = page_of(port)
    count = {op: {"operation": op} for op in ("encode_text", "decode_latent", "register_workflow")}
    assert page.value("luna_request_success_total", **count["encode_text"]) == 3
    assert page.value("luna_request_success_total", **count["register_workflow"]) >= 1
    assert page.value("luna_inference_count_total", **count["encode_text"]) == 2
    assert page.value("luna_exec_count_total", **count["encode_text"]) == 2
    hits = ("luna_conditioning_cache_hit_total", "luna_answer_cache_hit_total")
    assert [page.value(name) for name in hits] == [1, 1]
    assert page.value("luna_conditioning_cache_miss_total") == 2
    assert page.value("luna_compute_seconds_count", **count["decode_latent"]) == 1
    assert page.value("luna_compute_seconds_sum", **count["decode_latent"]) > 0
    assert page.value("luna_transport_in_seconds_count", **count["decode_latent"]) == 1
    assert page.value("luna_transport_out_seconds_sum", **count["decode_latent"]) > 0
    total = page.value("luna_request_seconds_sum", **count["decode_latent"])
    assert total >= page.value("luna_compute_seconds_sum", **count["decode_latent"])
    assert page.value("luna_queue_seconds_count", device="cpu") >= 3
    assert page.total("luna_model_loads_total") == 3
    assert page.value("luna_model_load_seconds_count", role="vae") == 1
    held = {m["role"]: m["nbytes"] for m in daemon.models()}
    assert page.value("luna_model_bytes", role="vae", device="cpu") == held["vae"]
    assert page.value("luna_weight_bytes", device="cpu") == sum(held.values())
    assert page.value("luna_reserved_bytes", device="cpu") > sum(held.values())
    assert page.value("luna_budget_bytes", device="cpu") > page.value(
        "luna_reserved_bytes", device="cpu"
    )
    image = 384 * 384 * 3 * 4
    assert page.total("luna_bytes_total") >= image + 4 * 48 * 48 * 4
    tier = client.transport
    assert page.value("luna_bytes_total", tier=tier, direction="out") >= image
    assert page.value("luna_transport_requests_total", tier=tier) >= 1
    assert page.value("luna_leases") == 1
    assert (page.value("luna_sessions"), page.value("luna_pending", device="cpu")) == (1, 0)
    assert page.value("luna_workers", device="cpu") == 1
    assert page.value("luna_worker_rss_bytes", device="cpu") > 2**20
    assert page.total("luna_build_info") == 1
    assert "portraits" not in str(page.samples), "a workflow's name is no label"


def test_failures_are_counted_by_their_reason(start_daemon: Any) -> None:
    port = free_port()
    client = start_daemon(metrics_port=port, max_queue=1, max_batch=1).client()
    client.get_model_proxies("w", "SDXL", SDXL)
    slow = Background(lambda: client.vae_decode(latents(batch=8, side=64), workflow_id="w"))
    wait_until(lambda: page_of(port).total("luna_inference_count_total") > 0)
    with pytest.raises(DeadlineError):
        client.vae_decode(latents(), workflow_id="w", timeout_s=0.3)
    waiting = Background(lambda: client.vae_decode(latents(), workflow_id="w"))
    wait_until(lambda: page_of(port).value("luna_pending", device="cpu") == 1)
    with pytest.raises(RejectedError):
        client.vae_decode(latents(), workflow_id="w")
    with pytest.raises(NotFoundError):
        client.vae_decode(latents(), workflow_id="unknown")
    slow.result()
    waiting.result()
    page = page_of(port)
    reasons = {
        dict(labels)["reason"]: value
        for (name, labels), value in page.samples.items()
        if name == "luna_request_failure_total"
    }
    # Client and daemon look at the clock both: who is first, the client's cancelling or the daemon's end.
    late = {name: reasons.pop(name, 0) for name in ("DEADLINE", "CANCELED")}
    assert sum(late.values()) == 1
    assert page.value("luna_deadline_expired_total") == late["DEADLINE"]
    assert page.value("luna_cancelled_total") == late["CANCELED"]
    assert reasons == {"REJECTED": 1, "NOT_FOUND": 1}
    assert page.value("luna_queue_rejected_total", device="cpu") == 1


def test_the_status_over_http_is_the_one_of_the_command(monitored: Daemon, port: int) -> None:
    over_http, asked = json.loads(get(port, "/status")), monitored.status()
    assert over_http.keys() == asked.keys()
    assert over_http["pid"] == asked["pid"] == monitored.process.pid
    assert over_http["devices"].keys() == asked["devices"].keys()
    assert json.loads(get(port, "/health")) == {"state": "running"}


def fields_of(snapshot: Any) -> set[str]:
    """Every name in a snapshot, less those that are names of devices, roles or metrics."""
    if isinstance(snapshot, list):
        return set().union(*map(fields_of, snapshot))
    if not isinstance(snapshot, dict):
        return set()
    inside = [
        list(value.values()) if name in ("devices", "durations") else value
        for name, value in snapshot.items()
        if name != "counters" and not (name == "models" and isinstance(value, dict))
    ]
    return set(snapshot).union(*map(fields_of, inside))


def test_every_field_of_the_status_is_described(monitored: Daemon) -> None:
    from luna_collection.luna_daemon.monitoring import status

    client = monitored.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    client.clip_encode("a", workflow_id="w")
    fields = fields_of(monitored.status())
    assert {"cache_hit_rate", "last_death", "queue_wait", "workflow_id"} <= fields
    described = set(re.findall(r"\w+", status.__doc__ or ""))
    assert fields - described == set()
    monitored.close_clients()


@pytest.mark.parametrize(
    ("lines", "options", "status"),
    [
        ([], {"host": "rebound.evil.example:{port}"}, 403),
        ([], {"host": "evil.example"}, 403),
        ([], {"host": "127.0.0.1:1"}, 403),
        (["Origin: http://evil.example"], {}, 403),
        (["Origin: null"], {}, 403),
        (["Origin: http://127.0.0.1:{port}"], {}, 403),
        (["Content-Length: 2"], {"first": "POST /status HTTP/1.1"}, 405),
        ([], {"first": "OPTIONS /metrics HTTP/1.1"}, 405),
        ([], {"first": "GET /stop HTTP/1.1"}, 404),
        (["Host: 127.0.0.1:{port}"], {}, 400),
        (["X: " + "y" * 9 * 1024], {}, 431),
    ],
)
def test_whoever_should_not_ask_gets_no_answer(
    monitored: Daemon, port: int, lines: list[str], options: dict[str, str], status: int
) -> None:
    filled = [line.format(port=port) for line in lines]
    named = {name: value.format(port=port) for name, value in options.items()}
    answer = send(port, head(port, *filled, **named))
    assert status_of(answer) == status
    assert str(monitored.folder).encode() not in answer
    assert b"boot_id" not in answer
    assert_serves(monitored, port)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_request_without_a_host_is_bad(monitored: Daemon, port: int, version: str) -> None:
    answer = send(port, f"GET /status HTTP/{version}\r\n\r\n".encode())
    assert status_of(answer) == 400
    assert_serves(monitored, port)


def test_garbage_is_no_harm(monitored: Daemon, port: int) -> None:
    good = head(port, first="GET /health HTTP/1.1")
    assert send(port, good + os.urandom(30_000)).count(b"HTTP/1.1") == 1
    assert send(port, good * 50).count(b"HTTP/1.1") == 1, "one request per connection"
    assert status_of(send(port, b"\0" * 64 + b"\r\n\r\n")) == 400
    assert status_of(send(port, b"\x16\x03\x01" + os.urandom(20_000).replace(b"\r", b"x"))) == 431
    for data in (b"", b"GET", good[:-2], good):
        send(port, data, then_wait=False)
    assert_serves(monitored, port)


def test_slow_callers_take_no_place_for_long(monitored: Daemon, port: int) -> None:
    descriptors = psutil.Process(monitored.process.pid).num_fds if os.name != "nt" else (lambda: 0)
    before, started = descriptors(), time.monotonic()
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda _: send(port, b"GET /status HTTP/1.1\r\nA: "), range(60)))
    assert 4 < time.monotonic() - started < 15
    assert {status_of(answer) for answer in answers if answer} <= {408, 503}
    assert [a for a in answers if a and status_of(a) == 408]
    assert_serves(monitored, port)
    wait_until(lambda: descriptors() <= before + 1)


def assert_serves(daemon: Daemon, port: int) -> None:
    assert json.loads(get(port, "/health")) == {"state": "running"}
    assert daemon.status()["state"] == "running"


def test_without_the_setting_no_port_is_open(start_daemon: Any) -> None:
    process = psutil.Process(start_daemon().process.pid)
    listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert len(listening) == 1, "only the one for clients"


def test_the_port_is_on_this_machine_only(monitored: Daemon, port: int) -> None:
    process = psutil.Process(monitored.process.pid)
    (mine,) = [
        c
        for c in process.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    ]
    assert mine.laddr.ip == "127.0.0.1"


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ended = subprocess.run(
            [
                *(sys.executable, str(LAUNCHER), "--port=0", f"--runtime-dir={tmp_path}"),
                f"--metrics-port={taken}",
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 2
    assert f"Port {taken} on 127.0.0.1 cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("*.sock"))


def test_health_says_that_the_daemon_stops(start_daemon: Any) -> None:
    port = free_port()
    daemon = start_daemon(metrics_port=port)
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    slow = Background(lambda: client.vae_decode(latents(batch=6, side=64), workflow_id="w"))
    wait_until(lambda: any(w["state"] == "busy" for w in daemon.workers()))
    client.stop_daemon()
    asked = head(port, first="GET /health HTTP/1.1")
    wait_until(lambda: status_of(send(port, asked)) == 503)
    assert slow.result().shape[0] == 6
    assert daemon.process.wait(timeout=60) == 0


def test_why_a_worker_died_is_in_the_status_and_in_the_command(start_daemon: Any) -> None:
    port = free_port()
    daemon = start_daemon(metrics_port=port)
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    kill_9(daemon.worker_pid())
    client.clip_encode("a", workflow_id="w")
    (worker,) = daemon.workers()
    assert worker["deaths"] == 1
    wait_until(lambda: "code -9" in daemon.workers()[0]["last_death"])
    (worker,) = daemon.workers()
    assert page_of(port).value("luna_worker_restarts_total", device="cpu") == 1
    shown = subprocess.run(
        [sys.executable, str(LAUNCHER), "status", "--port=0", f"--runtime-dir={daemon.folder}"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert shown.returncode == 0, shown.stderr
    assert max(len(line) for line in shown.stdout.splitlines()) <= 100
    assert "code -9" in shown.stdout


def log_lines(daemon: Daemon) -> list[str]:
    return (daemon.folder / "daemon-0.log").read_text("utf-8").splitlines()


def test_json_logs_are_one_object_per_line_with_the_request_in_it(start_daemon: Any) -> None:
    daemon = start_daemon(log_format="json", slow_request_s=0.0001, log_level="debug")
    client = daemon.client()
    client.get_model_proxies("portraits", "SDXL", SDXL)
    client.vae_decode(latents(side=16), workflow_id="portraits")
    kill_9(daemon.worker_pid())
    client.clip_encode("a secret garden", workflow_id="portraits")
    assert daemon.stop() == 0
    lines = [json.loads(line) for line in log_lines(daemon)]
    assert all(line.keys() >= JSON_FIELDS for line in lines)
    assert all(datetime.fromisoformat(line["time"].replace("Z", "+00:00")) for line in lines)
    assert {line["level"] for line in lines} >= {"debug", "info", "warning"}
    (decode,) = [line for line in lines if line.get("operation") == "decode_latent"]
    assert (decode["workflow"], decode["level"]) == ("portraits", "warning")
    assert decode["shapes"] == ["float32[1, 4, 16, 16]"]
    assert 0 <= decode["queue_s"] <= decode["total_s"]
    assert 0 < decode["compute_s"] <= decode["total_s"]
    assert (decode["cache_hit"], decode["outcome"]) == (False, "answered")
    registered = next(line for line in lines if "uses clip_l" in line["message"])
    assert registered["workflow"] == "portraits"
    assert {registered["session"]} == {decode["session"]}
    assert registered["request"] != decode["request"]
    workers_own = [line for line in lines if "is ready after" in line["message"]]
    assert len(workers_own) == 2
    assert not [line for line in workers_own if "request" in line]
    assert "garden" not in "".join(log_lines(daemon))
    assert all(json.loads(line) for line in daemon.log.read_text("utf-8").splitlines())


def test_text_logs_name_the_workflow_at_the_end_of_the_line(start_daemon: Any) -> None:
    daemon = start_daemon(slow_request_s=0.0001)
    client = daemon.client()
    client.get_model_proxies("portraits", "SDXL", SDXL)
    client.clip_encode("a", workflow_id="portraits")
    assert daemon.stop() == 0
    slow = [line for line in log_lines(daemon) if "slow request: encode_text" in line]
    assert len(slow) == 1
    assert re.search(r"texts 1, .* \[wf portraits session \d+ request \d+\]$", slow[0])
    ready = [line for line in log_lines(daemon) if "is ready after" in line]
    assert ready
    assert not [line for line in ready if line.endswith("]")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_a_full_disk_stops_the_log_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, start_daemon: Any
) -> None:
    folder = tmp_path_factory.mktemp("d")
    (folder / "daemon-0.log").symlink_to("/dev/full")
    daemon = start_daemon(folder=folder, log_level="debug")
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    assert client.vae_decode(latents(), workflow_id="w").shape == (1, 128, 128, 3)
    assert daemon.stop() == 0
    shown = daemon.log.read_text("utf-8")
    assert shown.count("cannot be written (No space left on device)") == 1
    assert "Traceback" not in shown
