"""What loading SDXL's text encoders costs a worker, against ComfyUI's own loader."""

from __future__ import annotations

from collections.abc import Iterator

from ..entries import LOWER, Bench, Entry, ratio_entry
from ..pairs import Result, compare
from .comfy_process import ENGINE, STOCK
from .stage import Stage, mb

GOAL_CPU, GOAL_MEMORY = 0.15, 0.35


def measure(bench: Bench) -> Iterator[Entry]:
    """Load them as a worker does and as stock ComfyUI does, in processes that import the same."""
    stage = Stage(bench, ["clip_l", "clip_g"])
    models = stage.sdxl_clip()
    with (
        stage.processes(1, ENGINE, "--bare") as (worker,),
        stage.processes(1, STOCK, "--bare") as (stock,),
    ):
        found, anonymous = [], []
        for process in (worker, stock):
            process.do("open", **models)
            found.append(process.do("encode", calls=1)["digest"])
            anonymous.append(process.do("memory")["anonymous"])
        if found[0] != found[1]:
            raise ValueError("The worker's conditioning is not bit for bit stock ComfyUI's.")
        result = compare(
            lambda: float(worker.do("open", **models)["cpu_s"]),
            lambda: float(stock.do("open", **models)["cpu_s"]),
            bench.plan,
            bench.tell_pair,
        )
    yield ratio_entry(
        "loading SDXL's text encoders, worker / stock",
        result,
        GOAL_CPU,
        LOWER,
        "CPU time of loading CLIP-L and CLIP-G (fp16, 1.6 GB, in the system's file cache) as a worker "
        "does, with weights mapped from the files, against ComfyUI's own load_clip.",
    )
    ratio = anonymous[0] / anonymous[1]
    yield ratio_entry(
        "memory of SDXL's text encoders, worker / stock",
        Result(ratio, (ratio, ratio), 1),
        GOAL_MEMORY,
        LOWER,
        f"Anonymous memory of those processes after loading and one text: {mb(anonymous[0])} against "
        f"{mb(anonymous[1])}. The mapped weights are not in it: all processes share them, and the "
        "system can take them back.",
    )
