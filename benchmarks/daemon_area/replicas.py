"""What two workers with the same model take, with one copy of its weights and with two."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from ...luna_daemon.client import DaemonClient
from ..entries import LOWER, Bench, Entry, ratio_entry
from ..models import CLIP_L, make_text_encoder
from ..pairs import Result
from .private_daemon import PrivateDaemon, register_sd15

GOAL = 0.75
CLIENTS = 4
LOAD_TIMEOUT_S = 300.0
_texts = itertools.count()


def measure(bench: Bench) -> Iterator[Entry]:
    """Let two workers serve one encoder, with shared weights and with copied ones."""
    bench.tell("making models")
    encoder = make_text_encoder(bench.folder / "models" / "sd15", CLIP_L)
    taken = {way: _two_workers(bench, encoder, way) for way in ("auto", "off")}
    ratio = taken["auto"] / taken["off"]
    yield ratio_entry(
        "memory of two workers, shared weights / copied",
        Result(ratio, (ratio, ratio), 1),
        GOAL,
        LOWER,
        "Proportional set size of two worker processes that hold CLIP-L in fp32 and encode texts "
        f"({taken['auto'] >> 20} MB) against the same with share_weights off "
        f"({taken['off'] >> 20} MB).",
    )


def _two_workers(bench: Bench, encoder: Path, way: str) -> int:
    bench.tell(f"two workers, share_weights {way}")
    settings = {"model_roots": bench.folder / "models", "share_weights": way, "worker_threads": 1}
    with PrivateDaemon(
        bench.folder, **settings, min_clip_workers=2, max_clip_workers=2, max_batch=1
    ) as daemon:
        clients = [daemon.client() for _ in range(CLIENTS)]
        register_sd15(clients, "two", encoder)
        _keep_both_busy(clients)
        pids = daemon.pids()[1:]
        taken = sum(int(psutil.Process(pid).memory_full_info().pss) for pid in pids)
        for client in clients:
            client.close()
    return taken


def _keep_both_busy(clients: list[DaemonClient]) -> None:
    """Ask for texts until both workers have the model and have encoded with it."""
    enough = threading.Event()

    def ask(client: DaemonClient, workflow: str) -> None:
        while not enough.is_set():
            client.clip_encode(f"text number {next(_texts)}", workflow_id=workflow)

    asking = [
        threading.Thread(target=ask, args=(client, f"two-{n}")) for n, client in enumerate(clients)
    ]
    for thread in asking:
        thread.start()
    try:
        _wait_for_two(clients[0])
    finally:
        enough.set()
        for thread in asking:
            thread.join()


def _wait_for_two(client: DaemonClient) -> None:
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    while True:
        workers = client.status()["devices"]["cpu"]["workers"]
        if sum(bool(worker["models"]) for worker in workers) == 2:
            break
        if time.monotonic() > deadline:
            raise RuntimeError("The second worker did not load the model.")
        time.sleep(0.2)
    time.sleep(2.0)  # both encode with it
