"""New strengths of a U-Net's LoRAs in ComfyUI's own process: our adapters against ComfyUI's."""

from __future__ import annotations

from collections.abc import Iterator

from ..comfyui_area.stage import Stage
from ..daemon_area.children import Teller
from ..entries import LOWER, Bench, Entry, ratio_entry
from ..pairs import compare
from .lora_process import EXACT, FAST, STOCK

COUNT = 7
GOALS = {EXACT: 1.0, FAST: 0.5}


def measure(bench: Bench) -> Iterator[Entry]:
    """Let one process patch clones with either kind of adapters, in turns."""
    installed = Stage(bench, []).installed
    python = str(installed.python)
    process = Teller("unet_process", str(installed.folder), area="lora_area", python=python)
    try:
        process.hear()

        def cost(kind: str) -> float:
            process.tell(kind=kind, count=COUNT)
            return float(process.hear()["cpu_s"])

        process.tell(check=COUNT)
        if not process.hear()["equal"]:
            raise ValueError("The U-Net's weights are not bit for bit stock ComfyUI's.")
        for kind, goal in GOALS.items():
            result = compare(
                lambda kind=kind: cost(kind), lambda: cost(STOCK), bench.plan, bench.tell_pair
            )
            yield ratio_entry(
                f"new strengths of {COUNT} LoRAs of a U-Net, {kind} / stock",
                result,
                goal,
                LOWER,
                f"CPU time of ComfyUI's load_models_gpu for a clone of SD1.5's U-Net (fp16) with {COUNT} LoRAs "
                "of rank 16 in strengths that were not there before, with our adapters against ComfyUI's, in "
                "one process: taking the last ones out of the weights and putting these in.",
            )
    finally:
        process.end()
