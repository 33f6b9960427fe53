"""The models of the LoRA tests, and checkpoints with text encoders inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..loras.conftest import (
    as_in_comfyui,
    calls,
    comfy_is_there,
    daemon,
    files,
    folder,
    lora_folder,
    loras,
    model_files,
    models,
    stock,
)
from ..router_models import write

__all__ = [
    "as_in_comfyui",
    "calls",
    "comfy_is_there",
    "daemon",
    "files",
    "folder",
    "lora_folder",
    "loras",
    "model_files",
    "models",
    "stock",
]


@pytest.fixture(scope="module")
def whole_sdxl(model_files: Path, stock: Callable[[str], Any]) -> Path:
    """Return an SDXL checkpoint with both text encoders inside, in the layout in which they are published."""
    import comfy.supported_models

    of = stock("sdxl")
    weights = {f"model.{key}": value for key, value in of.model.model.state_dict().items()}
    encoders = {
        key: value
        for key, value in of.clip.cond_stage_model.state_dict().items()
        if not key.endswith("logit_scale")
    }
    config = comfy.supported_models.SDXL({})
    weights |= config.process_clip_state_dict_for_saving(encoders)
    kept = {key: value for key, value in weights.items() if value.is_floating_point()}
    return write(model_files, "checkpoints/sdxl_whole.safetensors", kept)
