"""A converted checkpoint with v-prediction is sampled as the checkpoint is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ..router_models import write


@pytest.fixture(scope="module")
def v_prediction(model_files: Path) -> Path:
    tensors = load_file(model_files / "checkpoints/sd_xl_base_1.0.safetensors")
    marks = {"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}
    return write(model_files, "checkpoints/v.safetensors", {**tensors, **marks})


def opened(path: Path, precision: str, folder: Path) -> Any:
    """Open a checkpoint's model as the router does."""
    from luna_collection.nodes.loaders.precision import PreciseModels
    from luna_collection.utils.weights.shelf import ModelFile

    return PreciseModels(precision, folder).open(ModelFile("checkpoints", path.name, path))


@pytest.mark.parametrize("precision", ["None", "bf16", "fp8_e4m3fn_scaled", "gguf_Q8_0"])
def test_it_is_known_in_every_precision(v_prediction, model_files, tmp_path, precision):
    import comfy.model_base

    kinds = comfy.model_base.ModelType
    with_marks = opened(v_prediction, precision, tmp_path)
    assert with_marks.model.model_type is kinds.V_PREDICTION
    assert with_marks.model.model_config.sampling_settings["zsnr"]
    plain = model_files / "checkpoints/sd_xl_base_1.0.safetensors"
    assert opened(plain, precision, tmp_path).model.model_type is kinds.EPS
