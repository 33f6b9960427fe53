"""Several workflows at one worker: what they gain by asking at once, and what one does to another."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from ...luna_daemon.client import DaemonClient
from ..clocks import cpu_cost, wall_times
from ..entries import HIGHER, LOWER, Bench, Entry, ratio_entry
from ..models import CLIP_L, CLIP_L_SHORT, make_text_encoder
from ..pairs import compare, percentile, summarize
from .children import Teller
from .private_daemon import PrivateDaemon, register_sd15

Ask = Callable[[], Sequence[float]]  # makes a block of calls and returns how long each took

TOGETHER = 8
GOAL_TOGETHER = 1.10
FLOODING_THREADS = 16
CALLS = 20  # of the workflow that is disturbed, before the other state's turn
GOAL_FLOOD = 2.0
FLOOD_BUILDS_UP_S = 0.2


def measure_together(bench: Bench) -> Iterator[Entry]:
    """Compare texts that are asked for at once with the same number one after the other."""
    encoder = make_text_encoder(bench.folder / "models" / "clip-l", CLIP_L)
    with (
        PrivateDaemon(bench.folder, model_roots=bench.folder / "models") as daemon,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(daemon.client()) for _ in range(TOGETHER)]
        register_sd15(clients, "together", encoder)
        threads = stack.enter_context(ThreadPoolExecutor(TOGETHER))
        numbers = itertools.count(100_000)  # all of one length

        def encode(client: DaemonClient, workflow: int, number: int) -> None:
            client.clip_encode(f"text {number}", workflow_id=f"together-{workflow}")

        def one_at_a_time() -> None:
            for _ in range(TOGETHER):
                encode(clients[0], 0, next(numbers))

        def at_once() -> None:
            given = [next(numbers) for _ in range(TOGETHER)]
            list(threads.map(encode, clients, range(TOGETHER), given))

        at_once()
        pids = daemon.pids()
        result = compare(
            lambda: cpu_cost(one_at_a_time, pids),
            lambda: cpu_cost(at_once, pids),
            bench.plan,
            bench.tell_pair,
        )
    yield ratio_entry(
        f"{TOGETHER} encodes at once / one at a time",
        result,
        GOAL_TOGETHER,
        HIGHER,
        f"CPU time of clients and daemon for {TOGETHER} new texts of one length with CLIP-L by one "
        f"client in a row, over that of {TOGETHER} clients that ask at once.",
    )


def measure_flood(bench: Bench) -> Iterator[Entry]:
    """Compare a workflow's slow requests while another floods the daemon with those when it is alone."""
    encoder = make_text_encoder(bench.folder / "models" / "clip-l-short", CLIP_L_SHORT)
    with (
        PrivateDaemon(bench.folder, model_roots=bench.folder / "models") as daemon,
        daemon.client() as client,
        ExitStack() as stack,
    ):
        register_sd15([client], "quiet", encoder)
        flood = _start_flood(daemon, encoder)
        stack.callback(flood.end)
        texts = (f"quiet text {number}" for number in itertools.count())

        def ask() -> Sequence[float]:
            return wall_times(lambda: client.clip_encode(next(texts), workflow_id="quiet-0"), CALLS)

        ask()
        rises = []
        for number in range(bench.plan.least):
            rises.append(_rise(ask, flood, swapped=number % 2 == 1))
            bench.tell_pair(summarize(rises))
    yield ratio_entry(
        "rise of p95 under another's flood / one request",
        summarize(rises),
        GOAL_FLOOD,
        LOWER,
        f"Wall p95 of a workflow's encodes (CLIP-L's shapes, 2 layers) while another workflow has "
        f"{FLOODING_THREADS} under way, less p95 alone, over p50 alone; blocks of {CALLS} calls take turns.",
    )


def _rise(ask: Ask, flood: Teller, *, swapped: bool) -> float:
    if swapped:
        disturbed = _flooded(ask, flood)
        alone = ask()
    else:
        alone = ask()
        disturbed = _flooded(ask, flood)
    return (percentile(disturbed, 95) - percentile(alone, 95)) / percentile(alone, 50)


def _flooded(ask: Ask, flood: Teller) -> Sequence[float]:
    flood.tell(calls=None)
    time.sleep(FLOOD_BUILDS_UP_S)
    times = ask()
    flood.tell(stop=True)
    flood.hear()
    return times


def _start_flood(daemon: PrivateDaemon, encoder: Path) -> Teller:
    arguments = (str(daemon.runtime_dir), str(encoder), "flood", "--new-texts")
    flood = Teller("load_clients", *arguments, "--threads", str(FLOODING_THREADS))
    flood.hear()
    return flood
