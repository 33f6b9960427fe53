"""State dicts from headers: shapes and types of everything, values of what is small."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from luna_collection.luna_daemon.proxy.errors import NotASkeletonError
from luna_collection.luna_daemon.proxy.header import READ_UP_TO_BYTES, read_header_state_dict
from luna_collection.utils.errors import ModelFileError
from safetensors.torch import save_file


def test_large_tensors_have_no_values(tmp_path: Path):
    weights = {
        "large": torch.randn(READ_UP_TO_BYTES, dtype=torch.float32).to(torch.bfloat16),
        "small": torch.arange(6, dtype=torch.int64).reshape(2, 3),
        "none": torch.empty(0, 4),
        "layer.comfy_quant": torch.arange(READ_UP_TO_BYTES * 2, dtype=torch.int64).to(torch.uint8),
        "fp8": torch.ones(3).to(torch.float8_e4m3fn),
    }
    file = tmp_path / "it.safetensors"
    save_file(weights, file, metadata={"config": "{}"})
    found, metadata = read_header_state_dict(file)
    assert metadata == {"config": "{}"}
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype)
    assert found["large"].is_meta
    for name in weights.keys() - {"large", "fp8"}:
        assert torch.equal(found[name], weights[name])
    assert torch.equal(found["fp8"].float(), torch.ones(3))


def test_other_files_are_no_skeletons(tmp_path: Path):
    for name in ("model.ckpt", "model.pt", "model"):
        with pytest.raises(NotASkeletonError, match=name):
            read_header_state_dict(tmp_path / name)


def test_a_damaged_file_is_told_as_such(tmp_path: Path):
    file = tmp_path / "cut.safetensors"
    file.write_bytes(b"\xff" * 20)
    with pytest.raises(ModelFileError, match="cut"):
        read_header_state_dict(file)
