"""What a text costs to encode through the daemon, against the same engine in the own process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import torch

from ...luna_daemon.demo.client_process import LocalModels
from ...luna_daemon.demo.plan import WorkflowPlan
from ..clocks import calls_per_sample, cpu_cost
from ..entries import LOWER, Bench, Entry, ratio_entry
from ..models import CLIP_L, make_text_encoder
from ..pairs import compare
from .private_daemon import PrivateDaemon, register_sd15

GOAL = 1.05


def measure(bench: Bench) -> Iterator[Entry]:
    """Compare the CPU time of client and daemon with that of an engine in this process."""
    encoder = make_text_encoder(bench.folder / "models" / "clip-l", CLIP_L)
    local = local_models(encoder)
    texts = (f"a lighthouse in storm number {number}" for number in itertools.count())
    with (
        PrivateDaemon(bench.folder, model_roots=bench.folder / "models") as daemon,
        daemon.client() as client,
    ):
        register_sd15([client], "encode", encoder)

        def through_daemon() -> torch.Tensor:
            return client.clip_encode(next(texts), workflow_id="encode-0").cond

        def in_process() -> torch.Tensor:
            return local.encode_text(next(texts))["cond"]

        ours = client.clip_encode("the same", workflow_id="encode-0").cond
        if not torch.equal(ours, local.encode_text("the same")["cond"]):
            raise ValueError("The daemon's conditioning is not bit for bit that of the engine.")
        calls = calls_per_sample(in_process, [])
        pids = daemon.pids()
        result = compare(
            lambda: cpu_cost(lambda: [through_daemon() for _ in range(calls)], pids),
            lambda: cpu_cost(lambda: [in_process() for _ in range(calls)], []),
            bench.plan,
            bench.tell_pair,
        )
    yield ratio_entry(
        "encode through the daemon / in the process",
        result,
        GOAL,
        LOWER,
        "CPU time of client, supervisor and worker for a new text with CLIP-L (12 layers of 768, fp32) "
        "against that of the same engine in the benchmark's own process, without a cache.",
    )


def local_models(encoder: Path) -> LocalModels:
    """Return an SD1.5 text encoder that this process loads for itself."""
    plan = WorkflowPlan("local", "SD1.5", {"clip_l": str(encoder)}, (), (1, 4, 8, 8), seed=0)
    return LocalModels(plan, "cpu")
