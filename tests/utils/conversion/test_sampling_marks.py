"""What says how a model is sampled stays with it, though it lies beside the model in a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from luna_collection.utils.conversion.converting import converted_once
from luna_collection.utils.weights.gguf_header import read_gguf_header
from luna_collection.utils.weights.sampling_marks import marks_in
from safetensors.torch import load_file

from .model_files import SDXL, save, weights

SIGMA = torch.tensor(120.123)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    model = weights(SDXL, torch.float16)
    tensors = {f"model.diffusion_model.{name}": value for name, value in model.items()}
    tensors |= {"v_pred": torch.empty(0), "edm_vpred.sigma_max": SIGMA, "other": torch.ones(3)}
    return save(tmp_path / "v.safetensors", tensors)


@pytest.mark.parametrize("target", ["bf16", "fp8_e4m3fn_scaled"])
def test_marks_are_carried_over_as_they_are(source: Path, tmp_path: Path, target: str) -> None:
    made = load_file(converted_once(source, target, tmp_path / "unet").path)
    assert made["v_pred"].shape == (0,)
    assert torch.equal(made["edm_vpred.sigma_max"], SIGMA)
    assert "other" not in made


def test_gguf_has_them_among_the_metadata_or_as_numbers(source: Path, tmp_path: Path) -> None:
    header = read_gguf_header(converted_once(source, "gguf_Q8_0", tmp_path / "unet").path)
    assert marks_in(header.metadata) == ["v_pred"]
    assert header.tensors["edm_vpred.sigma_max"].type == "F32"
    assert "other" not in header.tensors
