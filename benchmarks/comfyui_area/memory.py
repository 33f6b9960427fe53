"""What ComfyUI processes take with models of their own, and with those of one daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from ..daemon_area.private_daemon import PrivateDaemon
from ..entries import LOWER, Bench, Entry, ratio_entry
from ..pairs import Result, summarize
from .comfy_process import DAEMON, STOCK
from .stage import ComfyUIProcess, Stage, mb, runtime_options

PROCESSES = 3
GOAL_GROWTH, GOAL_SD15, GOAL_SDXL = 0.30, 0.85, 0.60
SIDE = 32
SETTLE_S = 8.0  # a worker gives back what it kept for its next work after 5 s without any
Order = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Taken:
    """Proportional set sizes in bytes.

    Attributes:
        growth: What each process has grown by since it had imported ComfyUI.
        total: Of all processes, with the daemon's.
    """

    growth: list[float]
    total: float


def measure_sd15(bench: Bench) -> Iterator[Entry]:
    """Encode and decode with SD1.5's models in three processes."""
    stage = Stage(bench, ["clip_l", "vae"])
    orders: list[Order] = [
        ("open", {**stage.sd15_clip(), **stage.vae()}),
        ("encode", {"calls": 1}),
        ("decode", {"calls": 1, "side": SIDE}),
    ]
    shared, alone = _both(bench, stage, orders)
    grown = [mine / own for mine, own in zip(shared.growth, alone.growth, strict=True)]
    yield ratio_entry(
        "growth of a ComfyUI process with SD1.5, proxies / stock",
        summarize(grown),
        GOAL_GROWTH,
        LOWER,
        f"What the proportional set size of a process that has imported ComfyUI grows by when it opens "
        f"CLIP-L and the VAE, encodes a text and decodes {SIDE} × {SIDE}: "
        f"{mb(summarize(shared.growth).value)} against {mb(summarize(alone.growth).value)}, the median "
        f"of {PROCESSES} processes that run at the same time.",
    )
    yield _total(shared, alone, "SD1.5's text encoder and VAE", GOAL_SD15)


def measure_sdxl(bench: Bench) -> Iterator[Entry]:
    """Encode with SDXL's text encoders in three processes."""
    stage = Stage(bench, ["clip_l", "clip_g"])
    orders: list[Order] = [("open", stage.sdxl_clip()), ("encode", {"calls": 1})]
    yield _total(*_both(bench, stage, orders), "SDXL's text encoders", GOAL_SDXL)


def _total(shared: Taken, alone: Taken, what: str, goal: float) -> Entry:
    ratio = shared.total / alone.total
    return ratio_entry(
        f"{PROCESSES} ComfyUI processes with {what}, shared / alone",
        Result(ratio, (ratio, ratio), 1),
        goal,
        LOWER,
        f"Proportional set size of {PROCESSES} processes that have imported ComfyUI with its nodes, and "
        f"of the daemon with its worker ({mb(shared.total)}), against that of {PROCESSES} such "
        f"processes with models of their own ({mb(alone.total)}), {SETTLE_S:.0f} s after all have used them.",
    )


def _both(bench: Bench, stage: Stage, orders: Sequence[Order]) -> tuple[Taken, Taken]:
    bench.tell("with a daemon")
    with (
        stage.daemon() as daemon,
        stage.processes(PROCESSES, DAEMON, *runtime_options(daemon)) as processes,
    ):
        shared = _taken(processes, orders, daemon)
    bench.tell("each on its own")
    with stage.processes(PROCESSES, STOCK) as processes:
        alone = _taken(processes, orders, None)
    return shared, alone


def _taken(
    processes: Sequence[ComfyUIProcess], orders: Sequence[Order], daemon: PrivateDaemon | None
) -> Taken:
    before = _shares(processes)
    for what, arguments in orders:
        for process in processes:
            process.begin(what, **arguments)
        for process in processes:
            process.answer()
    time.sleep(SETTLE_S)
    after = _shares(processes)
    others = [] if daemon is None else [_share_of(pid) for pid in daemon.pids()]
    growth = [now - then for now, then in zip(after, before, strict=True)]
    return Taken(growth, sum(after) + sum(others))


def _shares(processes: Sequence[ComfyUIProcess]) -> list[float]:
    return [float(process.do("memory")["share"]) for process in processes]


def _share_of(pid: int) -> float:
    taken = psutil.Process(pid).memory_full_info()
    return float(getattr(taken, "pss", taken.uss))  # only Linux knows the share
