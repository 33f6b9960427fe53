"""LoRAs of a text encoder: through proxies and daemon, against a ComfyUI with an encoder of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from ..clocks import cpu_cost
from ..comfyui_area.comfy_process import DAEMON
from ..comfyui_area.comfy_process import STOCK as OWN
from ..comfyui_area.stage import ComfyUIProcess, Stage, mb, runtime_options
from ..daemon_area.private_daemon import PrivateDaemon
from ..entries import LOWER, Bench, Entry, ratio_entry
from ..pairs import Result, compare
from .lora_process import EXACT, FAST, STOCK

GOAL_SAME, GOAL_EXACT, GOAL_FAST, GOAL_MEMORY = 1.05, 0.85, 0.6, 1.0
COUNTS = (1, 3, 7)
TEXTS = 3  # of each sample with a set that is in the weights already
CHANGES = 2  # of strengths in each sample: each restores the one before
_HOW = {
    EXACT: "The conditioning is bit for bit the same.",
    FAST: "The fast way, which rounds less often.",
}


class Scene:
    """A daemon with a process that uses it, and a process on its own; both have the text encoder open."""

    def __init__(
        self, bench: Bench, daemon: PrivateDaemon, ours: ComfyUIProcess, stock: ComfyUIProcess
    ) -> None:
        self.bench, self.daemon, self.ours, self.stock = bench, daemon, ours, stock
        self._dice = random.Random(1)

    def our_cost(self, what: str, **order: Any) -> float:
        """Return the CPU seconds of ComfyUI's process, supervisor and worker."""
        return cpu_cost(lambda: self.ours.do(what, **order), [self.ours.pid, *self.daemon.pids()])

    def stock_cost(self, what: str, **order: Any) -> float:
        """Return the CPU seconds of the process on its own."""
        return cpu_cost(lambda: self.stock.do(what, **order), [self.stock.pid])

    def new_strengths(self, count: int) -> list[list[float]]:
        """Return strengths for the clones of one sample."""
        return [[self._dice.uniform(0.2, 1.2) for _ in range(count)] for _ in range(CHANGES)]

    def use(self, count: int, kind: str) -> dict[str, Any]:
        """Let both have LoRAs, and encode with them once; return what they take."""
        taken = self.ours.do("loras", count=count, kind=kind)
        self.stock.do("loras", count=count, kind=STOCK)
        strengths = self.new_strengths(count)
        found = []
        for process in (self.ours, self.stock):
            process.do("clones", strengths=strengths)
            found.append(process.do("encode_clones")["digest"])
        if kind == EXACT and found[0] != found[1]:
            raise ValueError(
                f"With {count} LoRAs the daemon's conditioning is not stock ComfyUI's."
            )
        return taken


@contextmanager
def _scene(bench: Bench) -> Iterator[Scene]:
    stage = Stage(bench, ["clip_l"])
    told = {"module": "lora_process", "area": "lora_area"}
    with (
        stage.daemon() as daemon,
        stage.processes(1, DAEMON, *runtime_options(daemon), **told) as (ours,),
        stage.processes(1, OWN, **told) as (stock,),
    ):
        found = []
        for process in (ours, stock):
            process.do("open", **stage.sd15_clip())
            found.append(process.do("encode", calls=1)["digest"])
        if found[0] != found[1]:
            raise ValueError("The daemon's conditioning is not bit for bit stock ComfyUI's.")
        yield Scene(bench, daemon, ours, stock)


def measure_same_set(bench: Bench) -> Iterator[Entry]:
    """Compare encodes with a set that is in the weights to plain ones of stock ComfyUI."""
    with _scene(bench) as scene:
        scene.use(COUNTS[-1], EXACT)
        result = compare(
            lambda: scene.our_cost("encode_again", calls=TEXTS),
            lambda: scene.stock_cost("encode", calls=TEXTS),
            bench.plan,
            bench.tell_pair,
        )
    yield ratio_entry(
        "the same set and strengths again / plain encode",
        result,
        GOAL_SAME,
        LOWER,
        f"CPU time of ComfyUI's process, supervisor and worker for a new text with SD1.5's text encoder "
        f"and {COUNTS[-1]} LoRAs that the text before had, too, against that of a stock ComfyUI for a text "
        "without a LoRA.",
    )


def measure_new_strengths(bench: Bench) -> Iterator[Entry]:
    """Compare restoring, patching and encoding with strengths that nobody had before."""
    with _scene(bench) as scene:
        for kind, goal in ((EXACT, GOAL_EXACT), (FAST, GOAL_FAST)):
            for count in COUNTS:
                bench.tell(f"{count} LoRAs, {kind}")
                scene.use(count, kind)
                yield _new_strengths(scene, count, kind, goal)


def _new_strengths(scene: Scene, count: int, kind: str, goal: float) -> Entry:
    def ours() -> float:
        scene.ours.do("clones", strengths=scene.new_strengths(count))
        return scene.our_cost("encode_clones")

    def stock() -> float:
        scene.stock.do("clones", strengths=scene.new_strengths(count))
        return scene.stock_cost("encode_clones")

    result = compare(ours, stock, scene.bench.plan, scene.bench.tell_pair)
    loras = "1 LoRA" if count == 1 else f"{count} LoRAs"
    return ratio_entry(
        f"new strengths of {loras}, {kind} / stock",
        result,
        goal,
        LOWER,
        f"CPU time of all processes for {CHANGES} encodes with SD1.5's text encoder (fp16), each with {loras} "
        "of rank 16 in strengths of its own: taking the last ones out of the weights, putting these in, "
        f"encoding; against a stock ComfyUI process. {_HOW[kind]}",
    )


def measure_memory(bench: Bench) -> Iterator[Entry]:
    """Compare what the worker grows by with what LoRAs and changed layers take."""
    with _scene(bench) as scene:
        worker = psutil.Process(scene.daemon.pids()[-1])
        before = worker.memory_full_info().uss
        taken = scene.use(COUNTS[-1], EXACT)
        grown = worker.memory_full_info().uss - before
    allowed = taken["loras"] + taken["changed"]
    ratio = grown / allowed
    yield ratio_entry(
        f"memory of {COUNTS[-1]} LoRAs in the worker / LoRAs and changed layers",
        Result(ratio, (ratio, ratio), 1),
        GOAL_MEMORY,
        LOWER,
        f"What the worker's own memory grows by when {COUNTS[-1]} LoRAs come, in two sets of strengths "
        f"({mb(grown)}), against the LoRAs' {mb(taken['loras'])} and the {mb(taken['changed'])} of the "
        "layers that they change.",
    )
