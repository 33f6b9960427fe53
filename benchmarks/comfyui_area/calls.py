"""What a text and an image cost through proxies and daemon, against stock objects in a process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..clocks import cpu_cost
from ..entries import LOWER, Bench, Entry, ratio_entry
from ..pairs import Result, compare
from .comfy_process import DAEMON, STOCK, STOCK_FP32
from .stage import ComfyUIProcess, Stage, runtime_options

GOAL, GOAL_FP32 = 1.05, 0.80
TEXTS = 3  # of each sample
SIDE = 16  # of the latent: an image of 128 × 128, for which most others would be too long a wait


def measure_encode(bench: Bench) -> Iterator[Entry]:
    """Compare encodes of new texts."""
    stage = Stage(bench, ["clip_l"])
    result = _compare(bench, stage, stage.sd15_clip(), "encode", {}, calls=TEXTS)
    yield ratio_entry(
        "encode through proxies and daemon / stock",
        result,
        GOAL,
        LOWER,
        "CPU time of ComfyUI's process, supervisor and worker for a new text with SD1.5's text encoder "
        "(fp16 as ComfyUI keeps it on the CPU) against that of a ComfyUI process with a CLIP of its own.",
    )


def measure_encode_fp32(bench: Bench) -> Iterator[Entry]:
    """Compare encodes of new texts with a daemon that holds text encoders in fp32."""
    stage = Stage(bench, ["clip_l"])
    result = _compare(
        bench, stage, stage.sd15_clip(), "encode", {"clip_precision": "fp32"}, calls=TEXTS
    )
    yield ratio_entry(
        "encode with weights held in fp32 / stock",
        result,
        GOAL_FP32,
        LOWER,
        "As the one before, with clip_precision=fp32 in the daemon's settings. The results are equal bit "
        "for bit; with a LoRA they would not be.",
    )
    yield _least_that_fp32_takes(bench, stage)


def _least_that_fp32_takes(bench: Bench, stage: Stage) -> Entry:
    """Compare two processes without a daemon, of which one has converted its weights beforehand."""
    with (
        stage.processes(1, STOCK_FP32) as (held,),
        stage.processes(1, STOCK) as (stock,),
    ):
        for process in (held, stock):
            process.do("open", **stage.sd15_clip())
            process.do("encode", calls=TEXTS)
        result = compare(
            lambda: cpu_cost(lambda: held.do("encode", calls=TEXTS), [held.pid]),
            lambda: cpu_cost(lambda: stock.do("encode", calls=TEXTS), [stock.pid]),
            bench.plan,
            bench.tell_pair,
        )
    return ratio_entry(
        "encode in one process, weights converted beforehand / stock",
        result,
        None,
        LOWER,
        "CPU time of a ComfyUI process without a daemon whose text encoder's weights were converted to fp32 "
        "once, against one that converts them before each use. What is left are the matrix products: no "
        "way to hold the weights can be below this line.",
    )


def measure_decode(bench: Bench) -> Iterator[Entry]:
    """Compare decodes of a latent."""
    stage = Stage(bench, ["vae"])
    result = _compare(bench, stage, stage.vae(), "decode", {}, calls=1, side=SIDE)
    yield ratio_entry(
        "VAE decode through proxies and daemon / stock",
        result,
        GOAL,
        LOWER,
        f"As the first one, for a latent of {SIDE} × {SIDE} with SD1.5's VAE.",
    )


def _compare(
    bench: Bench,
    stage: Stage,
    opened: dict[str, Any],
    what: str,
    settings: dict[str, object],
    **order: Any,
) -> Result:
    with stage.daemon(**settings) as daemon:
        bench.tell("starting processes of ComfyUI")
        with (
            stage.processes(1, DAEMON, *runtime_options(daemon)) as (ours,),
            stage.processes(1, STOCK) as (stock,),
        ):
            answers = [_first(process, opened, what, order) for process in (ours, stock)]
            if answers[0] != answers[1]:
                raise ValueError(f"'{what}' through the daemon is not bit for bit stock ComfyUI's.")
            ours_pids = [ours.pid, *daemon.pids()]
            return compare(
                lambda: cpu_cost(lambda: ours.do(what, **order), ours_pids),
                lambda: cpu_cost(lambda: stock.do(what, **order), [stock.pid]),
                bench.plan,
                bench.tell_pair,
            )


def _first(process: ComfyUIProcess, opened: Any, what: str, order: Any) -> str:
    """Open and use a model; the first use loads what later ones have. Return what became of it."""
    process.do("open", **opened)
    return str(process.do(what, **order)["digest"])
