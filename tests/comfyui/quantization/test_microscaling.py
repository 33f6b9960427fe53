"""mxfp8 and nvfp4, compared with what ComfyUI's own layers make of the same weight."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.engines.comfy.boot import boot
from luna_collection.utils.errors import InputError
from luna_collection.utils.quantization.microscaling import (
    FORMATS,
    dequantize_layer,
    is_offered,
    quantize_layer,
)
from luna_collection.utils.quantization.quality import compare
from luna_command.comfyui import ComfyUI
from safetensors import safe_open
from safetensors.torch import save_file

LAYOUTS = {"mxfp8": "TensorCoreMXFP8Layout", "nvfp4": "TensorCoreNVFP4Layout"}
LARGEST_ERROR = {"mxfp8": 0.04, "nvfp4": 0.12}
SHAPES = [(256, 512), (48, 96), (33, 40)]


def weight_of(shape: tuple[int, int], dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.02
    weight[1] = 0
    return weight.to(dtype)


@pytest.fixture(autouse=True, scope="module")
def comfy_is_there(comfyui: ComfyUI) -> Iterator[None]:
    """Import ComfyUI on the CPU; its own warnings are no failures of ours."""
    pytest.importorskip("comfy_kitchen")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        boot(comfyui.root, "cpu", {})
        yield


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_tensors_are_those_of_comfyui(name: str, shape: tuple[int, int]) -> None:
    from comfy.quant_ops import get_layout_class

    weight = weight_of(shape)
    parts = quantize_layer(weight, name)
    options = {"scale": parts["weight_scale_2"]} if name == "nvfp4" else {}
    data, params = get_layout_class(LAYOUTS[name]).quantize(weight, **options)
    assert torch.equal(parts["weight"].view(torch.uint8), data.view(torch.uint8))
    scales = params.block_scale if name == "nvfp4" else params.scale
    assert torch.equal(parts["weight_scale"].view(torch.uint8), scales.view(torch.uint8))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_error_is_that_of_the_format(name: str, shape: tuple[int, int]) -> None:
    weight = weight_of(shape)
    decoded = dequantize_layer(quantize_layer(weight, name), name, shape)
    assert decoded.shape == shape
    assert 0 < compare(weight, decoded).relative_rmse < LARGEST_ERROR[name]
    assert (decoded[1] == 0).all()
    zeros = torch.zeros(64, 64)
    assert (dequantize_layer(quantize_layer(zeros, name), name, (64, 64)) == 0).all()


@pytest.mark.parametrize("name", FORMATS)
def test_a_layer_of_comfyui_reads_them(name: str) -> None:
    import comfy.ops

    weight = weight_of((48, 96))
    parts = quantize_layer(weight, name)
    state: dict[str, Any] = {f"layer.{part}": tensor for part, tensor in parts.items()}
    description = json.dumps({"format": name}).encode()
    state["layer.comfy_quant"] = torch.tensor(list(description), dtype=torch.uint8)
    operations = comfy.ops.mixed_precision_ops({}, torch.float32, full_precision_mm=True)
    module = torch.nn.Module()
    module.layer = operations.Linear(96, 48, bias=False)
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert (missing, unexpected) == ([], [])

    values = torch.randn(3, 96, generator=torch.Generator().manual_seed(1))
    expected = values @ dequantize_layer(parts, name, (48, 96)).t()
    assert torch.allclose(module.layer(values), expected, atol=1e-4)


def test_what_cannot_be_stored_is_refused() -> None:
    assert is_offered("mxfp8")
    assert not is_offered("mxfp9")
    with pytest.raises(InputError, match="There is no format 'mxfp9'"):
        quantize_layer(weight_of((32, 32)), "mxfp9")
    with pytest.raises(InputError, match=r"Only weights of linear layers.*\[32\]"):
        quantize_layer(torch.zeros(32), "mxfp8")


@pytest.mark.parametrize("name", FORMATS)
def test_a_converted_file_has_the_tensors_of_the_whole_layer(name: str, tmp_path: Path) -> None:
    from luna_collection.utils.conversion.converting import converted_once
    from luna_collection.utils.conversion.streaming import CHUNK_ELEMENTS

    large, odd = "single_blocks.0.linear1.weight", "double_blocks.0.img_attn.proj.weight"
    tensors = {
        "img_in.weight": weight_of((256, 64)),
        "double_blocks.0.img_attn.norm.key_norm.scale": torch.ones(64).bfloat16(),
        "double_blocks.0.img_attn.qkv.weight": weight_of((768, 256)),
        odd: weight_of((100, 256)),
        large: weight_of((768, 4096)),
    }
    assert tensors[large].numel() > 2 * CHUNK_ELEMENTS
    source = tmp_path / "flux.safetensors"
    save_file(tensors, source)

    made = converted_once(source, name, tmp_path / "models")

    with safe_open(made.path, "pt") as file:
        layers = json.loads(file.metadata()["_quantization_metadata"])["layers"]
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert layers == {
        "double_blocks.0.img_attn.qkv": {"format": name},
        "single_blocks.0.linear1": {"format": name},
    }
    for part, tensor in quantize_layer(tensors[large], name).items():
        assert same_bytes(stored[large.removesuffix("weight") + part], tensor)
    assert torch.equal(stored[odd], tensors[odd])  # its rows are no whole tiles
    decoded = dequantize_layer(quantize_layer(tensors[large], name), name, (768, 4096))
    noted = made.sidecar.layers[large]["rmse"]
    assert noted == pytest.approx(compare(tensors[large], decoded).relative_rmse, rel=0.1)


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype == torch.float32:
        return torch.equal(one, other)
    return torch.equal(one.view(torch.uint8), other.view(torch.uint8))
