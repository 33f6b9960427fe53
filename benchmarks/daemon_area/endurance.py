"""Ten thousand requests of all kinds: does a request cost more at the end, and does memory grow?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import torch

from ...luna_daemon.client import DaemonClient
from ...luna_daemon.demo.tiny_models import make_sdxl_like
from ..clocks import cpu_cost
from ..entries import LOWER, Bench, Entry, ratio_entry
from ..pairs import Result, compare
from .private_daemon import PrivateDaemon

WARM_UP, REQUESTS, REQUESTS_QUICK = 500, 10_000, 2_000
EARLY = 1_000  # so many later, memory is looked at first
BLOCK = 100  # requests of one sample
GOAL_COST = 1.05
GOAL_MEMORY = 1.02
WORKFLOW = "endless"
_MIX = ("known",) * 5 + ("new", "new", "decode", "encode", "ping")
_KNOWN = tuple(f"a known text, number {number}" for number in range(10))


def measure(bench: Bench) -> Iterator[Entry]:
    """Let a daemon grow old; compare it with itself and with one that has just started."""
    make_sdxl_like(bench.folder / "models" / "tiny-sdxl")
    requests = REQUESTS_QUICK if bench.quick else REQUESTS
    with ExitStack() as stack:
        daemon, request = _start(stack, bench)
        memory = {}
        for done in range(BLOCK, requests + 1, BLOCK):
            _repeat(request, BLOCK)
            memory[done] = daemon.rss_bytes()
            bench.tell(f"{done} requests, {memory[done] >> 20} MB")
        yield _memory_entry(memory[requests] / memory[EARLY], requests)
        young, young_request = _start(stack, bench)
        pids, young_pids = daemon.pids(), young.pids()
        result = compare(
            lambda: cpu_cost(lambda: _repeat(request, BLOCK), pids),
            lambda: cpu_cost(lambda: _repeat(young_request, BLOCK), young_pids),
            bench.plan,
            bench.tell_pair,
        )
    yield ratio_entry(
        "cost of a request, old daemon / young daemon",
        result,
        GOAL_COST,
        LOWER,
        f"CPU time of client and daemon for mixed requests to tiny models by a daemon that has answered "
        f"{requests} against one that has answered {WARM_UP}; blocks of {BLOCK} requests take turns.",
    )


def _start(stack: ExitStack, bench: Bench) -> tuple[PrivateDaemon, Callable[[], None]]:
    """Start a daemon and warm it up; return it and a call that makes the next request of the mix."""
    caches = {"conditioning_cache_mb": 1, "answer_cache_mb": 1}
    settings = {"model_roots": bench.folder / "models", **caches}
    daemon = stack.enter_context(PrivateDaemon(bench.folder, **settings))
    client = stack.enter_context(daemon.client())
    names = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "vae": "vae"}
    models = {role: f"tiny-sdxl/{name}" for role, name in names.items()}
    client.get_model_proxies(WORKFLOW, "SDXL", models)
    request = _requests(client)
    _repeat(request, WARM_UP)
    return daemon, request


def _memory_entry(growth: float, requests: int) -> Entry:
    return ratio_entry(
        f"memory after {requests} requests / after {EARLY}",
        Result(growth, (growth, growth), 1),
        GOAL_MEMORY,
        LOWER,
        f"Resident memory of supervisor and worker after {requests} mixed requests to tiny models against "
        f"that after {EARLY}, with full caches of 1 MB.",
    )


def _requests(client: DaemonClient) -> Callable[[], None]:
    numbers = itertools.count()
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn((1, 4, 8, 8), generator=generator)
    image = torch.rand((1, 64, 64, 3), generator=generator)

    def new_text() -> None:
        client.clip_encode(f"a new text, number {next(numbers)}", workflow_id=WORKFLOW)

    kinds: dict[str, Callable[[], object]] = {
        "known": lambda: client.clip_encode(next(known), workflow_id=WORKFLOW),
        "new": new_text,
        "decode": lambda: client.vae_decode(latent, workflow_id=WORKFLOW),
        "encode": lambda: client.vae_encode(image, workflow_id=WORKFLOW),
        "ping": client.ping,
    }
    known = itertools.cycle(_KNOWN)
    order = itertools.cycle(_MIX)

    def request() -> None:
        kinds[next(order)]()

    return request


def _repeat(request: Callable[[], object], count: int) -> None:
    for _ in range(count):
        request()
