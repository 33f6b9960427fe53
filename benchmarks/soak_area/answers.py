"""The models of the soak, and the right answers to its cases."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from ...luna_daemon.demo.tiny_models import make_sd15_like, make_sdxl_like
from ...luna_daemon.engines.engine import EngineSettings, Resident, SilentControl
from ...luna_daemon.engines.hf.engine import HfEngine
from ...luna_daemon.model_locator import ModelLocator
from ...luna_daemon.protocol.work import EncodeText
from .cases import FAMILIES, all_cases


def make_models(folder: Path) -> None:
    """Make the tiny models that the cases use."""
    make_sdxl_like(folder / "sdxl")
    make_sd15_like(folder / "sd15")


def write_expected(models: Path, file: Path) -> None:
    """Let the engine, in this process, answer all cases; keep the answers in a file."""
    engine = HfEngine(EngineSettings("cpu"))
    loaded = {family: _load(engine, models, family) for family in FAMILIES}
    answers = {}
    for case in all_cases():
        is_text = isinstance(case.work, EncodeText)
        residents = {
            role: one for role, one in loaded[case.family].items() if (role == "vae") != is_text
        }
        outcome = engine.run(case.work, case.family, residents, case.tensors, SilentControl())
        for index, tensor in enumerate(outcome.tensors):
            answers[f"{case.name}/{index}"] = tensor.clone(memory_format=torch.contiguous_format)
    save_file(answers, file)


def _load(engine: HfEngine, models: Path, family: str) -> dict[str, Resident]:
    locator = ModelLocator([models])
    return {
        role: engine.load(locator.spec(role, name, engine="hf", precision="fp32"))
        for role, name in FAMILIES[family].items()
    }
