"""A model in parts under the nodes: one file is made of all of them, and ComfyUI is not handed a single one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from luna_collection.utils.errors import ModelFileError
from luna_collection.utils.weights.shelf import ModelFile
from safetensors.torch import load_file, save_file

WEIGHTS = {
    "img_in.weight": torch.full((64, 64), 0.1),
    "vector_in.in_layer.weight": torch.full((64, 64), 0.2),
    "double_blocks.0.img_attn.norm.key_norm.scale": torch.ones(64),
    "double_blocks.0.img_attn.qkv.weight": torch.full((192, 64), 0.3),
}


@pytest.fixture
def part(tmp_path: Path) -> ModelFile:
    names = sorted(WEIGHTS)
    for number in range(2):
        tensors = {name: WEIGHTS[name].bfloat16() for name in names[number::2]}
        save_file(tensors, tmp_path / f"whole-{number + 1:05}-of-00002.safetensors")
    path = tmp_path / "whole-00002-of-00002.safetensors"
    return ModelFile("diffusion_models", path.name, path)


def test_a_precision_makes_one_file_of_them(
    comfy_is_there: None, tmp_path: Path, part: ModelFile
) -> None:
    from luna_collection.nodes.loaders.precision import PreciseModels

    models = PreciseModels("bf16", tmp_path / "unet")

    whole = models.file(part)

    assert whole.path == tmp_path / "unet/bf16/whole_unet.safetensors"
    found = load_file(whole.path)
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], WEIGHTS[name].bfloat16()) for name in WEIGHTS)
    assert "was made now of 'whole-00002-of-00002.safetensors'" in models.notes[0]


def test_one_of_them_is_refused_with_what_to_do(comfy_is_there: None, part: ModelFile) -> None:
    from luna_collection.nodes.local_models import open_model

    with pytest.raises(ModelFileError, match=r"is one part of a model.*Choose a dynamic_precision"):
        open_model(part)
