"""What a ComfyUI process pays for having proxies: making them, and looking after them."""

from __future__ import annotations

from collections.abc import Iterator

from ..entries import LOWER, Bench, Entry
from ..pairs import summarize
from .comfy_process import DAEMON
from .stage import Stage, runtime_options

GOAL_S, GOAL_MB, GOAL_CHECK_MS = 1.5, 60.0, 10.0
STARTS, STARTS_QUICK = 5, 2
CHECKS = 50


def measure_skeleton(bench: Bench) -> Iterator[Entry]:
    """Make the proxies of SDXL's text encoders in several fresh processes."""
    stage = Stage(bench, ["clip_l", "clip_g"])
    seconds, megabytes = [], []
    with stage.daemon() as daemon:
        for number in range(STARTS_QUICK if bench.quick else STARTS):
            with stage.processes(1, DAEMON, *runtime_options(daemon)) as (process,):
                taken = process.do("open", **stage.sdxl_clip())
            seconds.append(taken["cpu_s"])
            megabytes.append(taken["share_grown"] / 2**20)
            bench.tell(f"skeleton {number + 1}: {seconds[-1]:.2f} s, {megabytes[-1]:.0f} MB")
    for name, values, unit, goal, how in (
        (
            "skeleton of SDXL's text encoders",
            seconds,
            "s",
            GOAL_S,
            "CPU time of ComfyUI's process for the first CLIP that it opens in the daemon: CLIP-L and "
            "CLIP-G from the headers of their files, tokenizers, and what is imported for it.",
        ),
        (
            "memory of SDXL's skeleton",
            megabytes,
            "MB",
            GOAL_MB,
            "What the proportional set size of that process grows by, of which a stock CLIP takes "
            "1.6 GB for the weights alone.",
        ),
    ):
        result = summarize(values)
        yield Entry(
            name=name,
            value=result.value,
            unit=unit,
            goal=goal,
            better=LOWER,
            n=result.n,
            spread=result.spread,
            how=how,
        )


def measure_tamper_check(bench: Bench) -> Iterator[Entry]:
    """Look for edits of a VAE's module tree, as before each call."""
    stage = Stage(bench, ["vae"])
    with (
        stage.daemon() as daemon,
        stage.processes(1, DAEMON, *runtime_options(daemon)) as (process,),
    ):
        process.do("open", **stage.vae())
        process.do("check", calls=1)
        result = summarize(process.do("check", calls=CHECKS)["times_ms"])
    yield Entry(
        name="tamper check",
        value=result.value,
        unit="ms",
        goal=GOAL_CHECK_MS,
        better=LOWER,
        n=result.n,
        spread=result.spread,
        how="CPU time of comparing SD1.5's VAE, module by module, with what it was when it was opened; "
        "this is done before each call.",
    )
