"""What a daemon holds when nobody is connected. A fault must leave it as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from luna_collection.luna_daemon.client import DaemonClient

from .conftest import SDXL, Daemon, latents, shared_memory_names

CALM_S = 0.5  # without a change for so long, it is settled
SETTLE_S = 30.0


@dataclass(frozen=True)
class Footprint:
    """What is left when all clients are gone.

    `descriptors`: without those of weights, which stay as long as their models; `arenas`: maps of anonymous
    shared memory; `children`: processes, those not waited for too.
    """

    descriptors: int
    arenas: int
    shared_memory: frozenset[str]
    children: int


def footprint(daemon: Daemon) -> Footprint:
    supervisor = psutil.Process(daemon.process.pid)
    counted = supervisor.num_fds() - _weights(supervisor) if hasattr(supervisor, "num_fds") else 0
    maps = supervisor.memory_maps(grouped=False) if hasattr(supervisor, "memory_maps") else []
    return Footprint(
        descriptors=counted,
        arenas=sum("luna-arena" in one.path for one in maps),
        shared_memory=frozenset(n for n in shared_memory_names() if f"-{supervisor.pid}-" in n),
        children=len(supervisor.children(recursive=True)),
    )


def _weights(supervisor: psutil.Process) -> int:
    folder = Path(f"/proc/{supervisor.pid}/fd")
    if not folder.is_dir():  # only Linux shares weights
        return 0
    found = 0
    for entry in folder.iterdir():
        with suppress(FileNotFoundError):  # closed just now
            found += "luna-weights" in str(entry.readlink())
    return found


def settled(daemon: Daemon) -> Footprint:
    """Wait until nothing changes any more."""
    deadline = time.monotonic() + SETTLE_S
    last, since = footprint(daemon), time.monotonic()
    while time.monotonic() - since < CALM_S:
        assert time.monotonic() < deadline, f"the daemon does not come to rest: {last}"
        time.sleep(0.05)
        now = footprint(daemon)
        if now != last:
            last, since = now, time.monotonic()
    return last


def serve_one(daemon: Daemon) -> None:
    """Let a new client have a good request served."""
    with DaemonClient(config=daemon.config) as client:
        client.get_model_proxies("after", "SDXL", SDXL)
        assert client.vae_decode(latents(), workflow_id="after").shape == (1, 128, 128, 3)
        assert client.clip_encode("a", workflow_id="after").cond.shape[0] == 1


@contextmanager
def no_trace_in(daemon: Daemon) -> Iterator[None]:
    """The daemon serves afterwards, and holds what it held before."""
    daemon.close_clients()
    serve_one(daemon)
    before = settled(daemon)
    yield
    daemon.close_clients()
    serve_one(daemon)
    deadline = time.monotonic() + SETTLE_S
    while (after := footprint(daemon)) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert after == before
