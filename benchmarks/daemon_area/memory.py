"""What three processes with the same models take, with and without the daemon."""

from __future__ import annotations

from collections.abc import Iterator

from ...luna_daemon.demo.plan import WorkflowPlan
from ...luna_daemon.demo.processes import run_clients
from ..entries import LOWER, Bench, Entry, ratio_entry
from ..models import (
    CLIP_G,
    CLIP_G_SHORT,
    CLIP_L,
    make_text_encoder,
    make_vae,
)
from ..pairs import Result
from .private_daemon import PrivateDaemon

GOAL = 0.60
LATENT_SHAPE = (1, 4, 16, 16)
_PROMPTS = ("a castle on a cliff", "a quiet harbor", "a red fox")


def measure(bench: Bench) -> Iterator[Entry]:
    """Run three workflows with models of their own, then through the daemon."""
    plans = _plans(bench)
    folder = bench.folder / "memory"
    alone = run_clients("Each process loads its own models.", plans, folder / "alone", ())
    with PrivateDaemon(bench.folder, model_roots=bench.folder / "models") as daemon:
        options = ("--runtime-dir", str(daemon.runtime_dir))
        shared = run_clients(
            "All share the daemon's.", plans, folder / "shared", options, others=[daemon.pid]
        )
    ratio = shared.memory_bytes / alone.memory_bytes
    size = (
        "SDXL's text encoders and VAE in full size"
        if bench.full_size
        else "CLIP-L, CLIP-G cut to 4 of 32 layers, SDXL's VAE with half the channels"
    )
    yield ratio_entry(
        "memory of three workflows, shared / alone",
        Result(ratio, (ratio, ratio), 1),
        GOAL,
        LOWER,
        f"Proportional set size of three client processes and the daemon with its worker "
        f"({shared.memory_bytes >> 20} MB) against that of three processes with models of their own "
        f"({alone.memory_bytes >> 20} MB), after all have encoded and decoded; {size}, fp32.",
    )


def _plans(bench: Bench) -> list[WorkflowPlan]:
    name = "sdxl" if bench.full_size else "sdxl-middle"
    repository = bench.folder / "models" / name
    bench.tell("making models")
    clip_g = CLIP_G if bench.full_size else CLIP_G_SHORT
    models = {
        "clip_l": str(make_text_encoder(repository, CLIP_L)),
        "clip_g": str(make_text_encoder(repository, clip_g, "_2")),
        "vae": str(make_vae(repository, narrower=1 if bench.full_size else 2)),
    }
    return [
        WorkflowPlan(f"copy {number}", "SDXL", models, (prompt,), LATENT_SHAPE, seed=number)
        for number, prompt in enumerate(_PROMPTS)
    ]
