"""The estimates of the scheduler against what the engine's models really make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.model_locator import ModelLocator
from luna_collection.luna_daemon.protocol.work import (
    AnyWork,
    DecodeLatent,
    EncodeImage,
    EncodeText,
)
from luna_collection.luna_daemon.scheduler.activation import WORK_SPACE, estimate

from .tensor_peak import TensorPeak

TEXTS = ("a red fox", "a quiet harbor", "a castle", "rain")
CASES = {
    "clip_l": ("text_encoder", "clip_l", EncodeText(texts=TEXTS), (4, 77)),
    "clip_g": ("text_encoder_2", "clip_g", EncodeText(texts=TEXTS), (4, 77)),
    "decode": ("vae", "vae", DecodeLatent(latent=0), (1, 4, 24, 16)),
    "encode": ("vae", "vae", EncodeImage(image=0), (1, 192, 128, 3)),
}


def peak_bytes(module: Any, work: AnyWork, shape: tuple[int, ...]) -> int:
    with torch.no_grad(), TensorPeak([*module.parameters(), *module.buffers()]) as peak:
        if isinstance(work, EncodeText):
            module(torch.full(shape, 5), output_hidden_states=True)
        elif isinstance(work, DecodeLatent):
            module.decode(torch.zeros(shape))
        else:
            module.encode(torch.zeros(shape).permute(0, 3, 1, 2))
    return peak.peak_bytes


@pytest.mark.parametrize(("folder", "role", "work", "shape"), CASES.values(), ids=CASES.keys())
def test_what_the_tensors_of_a_run_take_is_estimated(
    load: Any, sdxl: Path, folder: str, role: str, work: AnyWork, shape: tuple[int, ...]
) -> None:
    spec = ModelLocator([sdxl.parent]).spec(
        role, f"{sdxl.name}/{folder}", engine="hf", precision="fp32"
    )
    estimated = estimate(work, [spec], [shape], single=True) / WORK_SPACE
    measured = peak_bytes(load(sdxl / folder, role).model.module, work, shape)
    assert 0.8 * measured <= estimated <= 1.6 * measured
