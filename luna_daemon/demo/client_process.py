"""One workflow of the demonstration, in a process of its own: with its own models, or through the daemon.

Tells of its progress in JSON lines on standard output. When it is done it keeps its memory until its
standard input ends, so that whoever started it can measure all processes at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file

from ..client import DaemonClient
from ..config_sources import resolve
from ..engines.engine import Engine, EngineSettings, Resident, SilentControl
from ..model_locator import ModelLocator
from ..protocol.work import AnyWork, DecodeLatent, EncodeImage, EncodeText
from .plan import WorkflowPlan, read_plan


class Models(Protocol):
    """The same three calls, answered in this process or by the daemon."""

    cache_hits: int
    transport: str

    def encode_text(self, text: str) -> dict[str, torch.Tensor]:
        """Return the conditioning's tensors by name."""

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Return images."""

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Return latents."""


class LocalModels:
    """Models that this process loads for itself, as without a daemon."""

    cache_hits = 0
    transport = ""

    def __init__(self, plan: WorkflowPlan, device: str) -> None:
        from ..engines.hf.engine import HfEngine

        self._plan = plan
        # Without a daemon nothing remembers texts across nodes; a cache here would hide the difference.
        self._engine: Engine = HfEngine(EngineSettings(device, conditioning_cache_bytes=0))
        self._residents = {
            role: self._load(role, path, device) for role, path in plan.models.items()
        }

    def encode_text(self, text: str) -> dict[str, torch.Tensor]:
        """Return the conditioning's tensors by name."""
        tensors = self._run(EncodeText(texts=(text,)), "clip")
        return dict(zip(("cond", "pooled"), tensors, strict=False))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Return images."""
        return self._run(DecodeLatent(latent=0), "vae", latent)[0]

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Return latents."""
        return self._run(EncodeImage(image=0), "vae", image)[0]

    def _load(self, role: str, path: str, device: str) -> Resident:
        locator = ModelLocator([Path(path).parent])
        precision = "fp32" if device == "cpu" else "file"
        return self._engine.load(locator.spec(role, path, engine="hf", precision=precision))

    def _run(self, work: AnyWork, pool: str, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        models = {r: m for r, m in self._residents.items() if (r == "vae") == (pool == "vae")}
        return self._engine.run(
            work, self._plan.model_type, models, tensors, SilentControl()
        ).tensors


class DaemonModels:
    """The same models, in the daemon."""

    def __init__(self, plan: WorkflowPlan, runtime_dir: Path) -> None:
        config = resolve({"runtime_dir": runtime_dir, "port": 0}).config
        self._client = DaemonClient(config=config)
        self._workflow = plan.name
        self._client.get_model_proxies(plan.name, plan.model_type, plan.models)
        self.cache_hits = 0
        self.transport = self._client.transport

    def encode_text(self, text: str) -> dict[str, torch.Tensor]:
        """Return the conditioning's tensors by name."""
        encoded = self._client.clip_encode(text, workflow_id=self._workflow)
        self.cache_hits += encoded.cache_hit
        tensors = {"cond": encoded.cond}
        return tensors if encoded.pooled is None else {**tensors, "pooled": encoded.pooled}

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Return images."""
        return self._client.vae_decode(latent, workflow_id=self._workflow)

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Return latents."""
        return self._client.vae_encode(image, workflow_id=self._workflow)


def main(args: Sequence[str]) -> int:
    """Carry out a plan; called by the demonstration for each workflow."""
    parser = argparse.ArgumentParser(prog="luna-daemon demo client")
    parser.add_argument("plan", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--runtime-dir", type=Path, help="The daemon to use; none: own models.")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(args)
    plan = read_plan(options.plan)
    tell(state="loading")
    models: Models
    if options.runtime_dir is None:
        models = LocalModels(plan, options.device)
    else:
        models = DaemonModels(plan, options.runtime_dir)
    tell(state="ready")
    tensors, durations = carry_out(plan, models)
    save_file(tensors, options.result)
    tell(
        state="finished",
        durations_ms=durations,
        cache_hits=models.cache_hits,
        transport=models.transport,
    )
    sys.stdin.read()
    return 0


def carry_out(plan: WorkflowPlan, models: Models) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Make all calls of a plan; return the results by name and each call's milliseconds."""
    results: dict[str, torch.Tensor] = {}
    durations: list[float] = []
    generator = torch.Generator().manual_seed(plan.seed)
    started = time.perf_counter()

    def done() -> None:
        nonlocal started
        durations.append((time.perf_counter() - started) * 1000)
        tell(done=len(durations))
        started = time.perf_counter()

    for number, text in enumerate(plan.texts()):
        for name, tensor in models.encode_text(text).items():
            results[f"text {number} {name}"] = tensor.contiguous()
        done()
        if number % 2:
            latent = torch.randn(plan.latent_shape, generator=generator)
            results[f"image {number // 2}"] = models.decode(latent).contiguous()
            done()
    results["latent"] = models.encode_image(results["image 0"]).contiguous()
    done()
    return results, durations


def tell(**event: object) -> None:
    """Write one event for the process that watches."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()
