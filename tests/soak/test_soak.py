"""Minutes of requests, right and wrong, after which the daemon is what it was."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from luna_collection.benchmarks.soak_area.answers import make_models, write_expected
from luna_collection.benchmarks.soak_area.client_process import Chatter
from luna_collection.benchmarks.soak_area.measure import Holdings, settled
from luna_collection.benchmarks.soak_area.soak_daemon import SoakDaemon
from luna_collection.benchmarks.soak_area.tally import Tally
from luna_collection.benchmarks.soak_area.verdict import RSS_GROWTH
from luna_collection.luna_daemon.client import DaemonClient
from safetensors.torch import load_file

REQUESTS, WARM_UP_REQUESTS = 10_000, 2_000
THREADS, CLIENTS = 8, 4
MIX = {"hasty": 70, "bad": 30}  # of 100 requests, with 0 to 0.33 s for each good one


@pytest.mark.timeout(900)
def test_three_minutes_in_which_processes_are_killed(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "verdict.json"
    ran = subprocess.run(
        [
            *(sys.executable, str(root / "benchmarks" / "soak.py")),
            *("--minutes=3", f"--json={file}"),
        ],
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    verdict = json.loads(file.read_text("utf-8"))
    assert verdict["passed"]
    assert verdict["lost"] == []
    assert verdict["outcomes"]["good right"] > 500
    assert sum(verdict["kills"].values()) >= 5


@pytest.fixture
def soak_daemon(tmp_path: Path) -> Iterator[SoakDaemon]:
    make_models(tmp_path / "models")
    daemon = SoakDaemon(tmp_path, tmp_path / "models")
    daemon.start()
    yield daemon
    daemon.end()


@pytest.mark.timeout(900)
def test_ten_thousand_mixed_requests_leave_the_daemon_as_it_was(
    soak_daemon: SoakDaemon, tmp_path: Path
) -> None:
    write_expected(tmp_path / "models", tmp_path / "expected.safetensors")
    expected = load_file(tmp_path / "expected.safetensors")
    send(soak_daemon, expected, WARM_UP_REQUESTS)
    before = rest(soak_daemon)
    outcomes = send(soak_daemon, expected, REQUESTS)
    after = rest(soak_daemon)
    assert {name.split()[-1] for name in outcomes} <= {
        *("right", "DEADLINE", "BAD_REQUEST", "NOT_FOUND")
    }
    assert outcomes["hasty right"] > REQUESTS / 10
    assert outcomes["bad BAD_REQUEST"] + outcomes["bad NOT_FOUND"] > REQUESTS / 5
    assert after.countable == before.countable
    assert (after.worker_arenas, after.worker_descriptors) == (0, before.worker_descriptors)
    assert after.supervisor_rss <= RSS_GROWTH * before.supervisor_rss
    assert soak_daemon.stop() == (0, [])


def send(daemon: SoakDaemon, expected: Mapping[str, torch.Tensor], requests: int) -> Counter[str]:
    """Let threads, some of which share a client, send so many requests; return how they ended."""
    tally = Tally()
    clients = [
        DaemonClient(config=daemon.config, on_note=lambda note: None) for _ in range(CLIENTS)
    ]
    chatters = [Chatter(clients[n % CLIENTS], n, expected, tally) for n in range(THREADS)]

    def chat(chatter: Chatter) -> None:
        for _ in range(requests // THREADS):
            chatter.send(MIX)

    threads = [threading.Thread(target=chat, args=(one,)) for one in chatters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for end in (*chatters, *clients):
        end.close()
    told = tally.drain()
    assert told["troubles"] == []
    return Counter(told["counts"])


def rest(daemon: SoakDaemon) -> Holdings:
    daemon.probe()
    return settled(daemon)
