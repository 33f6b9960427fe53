from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from luna_collection.utils.conversion import streaming
from luna_collection.utils.conversion.converting import converted_once
from luna_collection.utils.conversion.refusal import ConversionRefusedError, Reason
from luna_collection.utils.conversion.targets import GGUF, TARGETS
from luna_collection.utils.quantization import ggml_library
from luna_collection.utils.weights.gguf_header import read_gguf_header

from .model_files import FLUX, SDXL, flux, save, sdxl_checkpoint, weights

Types = gguf.GGMLQuantizationType
# Relative error of a normal distribution in a type: none is further off.
ERROR = {
    "F32": 0,
    "F16": 1e-3,
    "BF16": 3e-3,
    "Q8_0": 6e-3,
    "Q6_K": 0.02,
    "Q5_K": 0.04,
    "Q5_1": 0.05,
    "Q5_0": 0.05,
    "Q4_K": 0.08,
    "Q4_0": 0.1,
    "IQ4_XS": 0.09,
    "Q3_K": 0.17,
}
GGUF_TARGETS = [name for name, target in TARGETS.items() if target.container == GGUF]


def read(path: Path) -> dict[str, tuple[str, torch.Tensor]]:
    """Return types and values of a file, read by the gguf package."""
    reader = gguf.GGUFReader(path)
    found = {}
    for tensor in reader.tensors:
        field = reader.get_field(f"comfy.gguf.orig_shape.{tensor.name}")
        shape = [int(n) for n in reversed(tensor.shape)]
        if field is not None:
            assert field.types == [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT32]
            shape = [int(field.parts[i][0]) for i in field.data]
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        found[tensor.name] = (
            tensor.tensor_type.name,
            torch.from_numpy(np.array(numbers, np.float32)).reshape(shape),
        )
    return found


@pytest.mark.parametrize("target", GGUF_TARGETS)
@pytest.mark.parametrize("shapes", [FLUX, SDXL], ids=["flux", "sdxl"])
def test_the_gguf_package_reads_what_is_written(tmp_path, target, shapes):
    given = weights(shapes, torch.float32)
    source = save(tmp_path / "a.safetensors", given)

    made = converted_once(source, target, tmp_path / "unet")

    found = read(made.path)
    assert found.keys() == given.keys()
    for name, (kind, numbers) in found.items():
        assert numbers.shape == given[name].shape
        error = (numbers - given[name]).norm() / given[name].norm()
        assert error <= ERROR[kind], (name, kind)
    main = target.removeprefix("gguf_").removesuffix("_M").removesuffix("_S")
    assert sum(kind == main for kind, _ in found.values()) >= 3


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_0"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_simple_types_have_the_bytes_of_the_gguf_package(tmp_path, kind, dtype):
    source = flux(tmp_path, dtype=dtype)

    made = converted_once(source, f"gguf_{kind}", tmp_path)

    name = "double_blocks.0.img_mlp.0.weight"
    tensor = next(t for t in gguf.GGUFReader(made.path).tensors if t.name == name)
    expected = gguf.quants.quantize(weights(FLUX, dtype)[name].float().numpy(), Types[kind])
    assert tensor.data.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("target", "file_type"),
    [
        ("gguf_F16", gguf.LlamaFileType.MOSTLY_F16),
        ("gguf_BF16", gguf.LlamaFileType.MOSTLY_BF16),
        ("gguf_Q8_0", gguf.LlamaFileType.MOSTLY_Q8_0),
        ("gguf_Q6_K", gguf.LlamaFileType.MOSTLY_Q6_K),
        ("gguf_Q5_K_M", gguf.LlamaFileType.MOSTLY_Q5_K_M),
        ("gguf_Q5_0", gguf.LlamaFileType.MOSTLY_Q5_0),
        ("gguf_Q4_K_M", gguf.LlamaFileType.MOSTLY_Q4_K_M),
        ("gguf_Q4_K_S", gguf.LlamaFileType.MOSTLY_Q4_K_S),
        ("gguf_Q4_0", gguf.LlamaFileType.MOSTLY_Q4_0),
        ("gguf_IQ4_XS", gguf.LlamaFileType.MOSTLY_IQ4_XS),
        ("gguf_Q3_K_M", gguf.LlamaFileType.MOSTLY_Q3_K_M),
    ],
)
def test_a_file_says_what_it_is(tmp_path, target, file_type):
    made = converted_once(sdxl_checkpoint(tmp_path), target, tmp_path)

    reader = gguf.GGUFReader(made.path)

    def value(key):
        return reader.get_field(key).contents()

    assert value("general.architecture") == "sdxl"
    assert value("general.file_type") == file_type
    assert value("general.quantization_version") == gguf.GGML_QUANT_VERSION
    assert all(tensor.data_offset % 32 == 0 for tensor in reader.tensors)
    assert made.path.name == f"sdxl_{target.removeprefix('gguf_')}.gguf"


def test_without_ggml_its_types_are_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(ggml_library, "find", lambda: None)
    source = flux(tmp_path)
    for target in ("gguf_Q3_K_M", "gguf_IQ4_XS"):
        with pytest.raises(ConversionRefusedError, match=r"by ggml.*Install one") as refused:
            converted_once(source, target, tmp_path)
        assert refused.value.reason is Reason.ABSENT
    assert converted_once(source, "gguf_Q4_K_S", tmp_path).made


def test_types_follow_the_recipe(tmp_path):
    made = converted_once(flux(tmp_path), "gguf_Q4_K_M", tmp_path)

    kinds = {name: kind for name, (kind, _) in read(made.path).items()}
    assert kinds == {
        "img_in.weight": "BF16",
        "img_in.bias": "F32",
        "txt_in.weight": "BF16",
        "vector_in.in_layer.weight": "BF16",
        "double_blocks.0.img_attn.norm.key_norm.scale": "F32",
        "double_blocks.0.img_attn.qkv.weight": "Q5_K",
        "double_blocks.0.img_attn.qkv.bias": "F32",
        "double_blocks.0.img_attn.proj.weight": "Q4_K",
        "double_blocks.0.img_mlp.0.weight": "Q4_K",
        "double_blocks.0.img_mlp.2.weight": "Q6_K",
        "single_blocks.0.linear1.weight": "Q4_K",
        "single_blocks.0.norm.query_norm.scale": "F32",
        "final_layer.linear.weight": "BF16",
    }


def test_rows_that_are_no_whole_blocks(tmp_path):
    odd = {
        "double_blocks.0.img_mlp.0.weight": (256, 288),
        "double_blocks.0.img_attn.qkv.weight": (768, 96),
        "double_blocks.0.img_mlp.2.weight": (256, 160),
        "single_blocks.0.linear1.weight": (256, 100),
    }
    source = save(tmp_path / "a.safetensors", weights({**FLUX, **odd}))

    made = converted_once(source, "gguf_Q4_K_M", tmp_path)

    kinds = {name: kind for name, (kind, _) in read(made.path).items()}
    assert [kinds[name] for name in odd] == ["Q5_0", "Q5_1", "Q8_0", "BF16"]


def test_short_rows_of_a_u_net_are_joined(tmp_path):
    made = converted_once(sdxl_checkpoint(tmp_path), "gguf_Q4_K_M", tmp_path)

    header = read_gguf_header(made.path)
    conv = header.tensors["input_blocks.1.0.in_layers.2.weight"]
    assert (conv.type, tuple(conv.shape)) == ("Q4_K", (320, 320, 3, 3))
    original = header.metadata["comfy.gguf.orig_shape.input_blocks.1.0.in_layers.2.weight"]
    assert tuple(original) == (320, 320, 3, 3)
    assert header.tensors["input_blocks.0.0.weight"].type == "F16"


def test_a_tensor_of_five_dimensions_keeps_its_shape(tmp_path):
    wan = {
        "patch_embedding.weight": (64, 16, 1, 2, 2),
        "blocks.0.self_attn.q.weight": (256, 256),
        "blocks.0.modulation": (1, 6, 256),
        "head.modulation": (1, 2, 256),
        "blocks.0.ffn.2.weight": (256, 1024),
    }
    source = save(tmp_path / "a.safetensors", weights(wan))

    made = converted_once(source, "gguf_Q4_K_M", tmp_path)

    found = read(made.path)
    assert {name: tuple(numbers.shape) for name, (_, numbers) in found.items()} == wan
    assert [found[name][0] for name in wan] == ["F32", "Q4_K", "F32", "F32", "Q6_K"]


def test_chunks_do_not_change_the_bytes(tmp_path, monkeypatch):
    source = sdxl_checkpoint(tmp_path)
    whole = converted_once(source, "gguf_Q8_0", tmp_path / "one").path
    monkeypatch.setattr(streaming, "CHUNK_ELEMENTS", 5000)

    parts = converted_once(source, "gguf_Q8_0", tmp_path / "two").path

    assert whole.read_bytes() == parts.read_bytes()


def test_settings_that_comfyui_reads_of_a_file_stay(tmp_path):
    source = save(tmp_path / "a.safetensors", weights(FLUX), config='{"a": 1}', author="somebody")

    made = converted_once(source, "gguf_Q8_0", tmp_path)

    metadata = read_gguf_header(made.path).metadata
    assert metadata["config"] == '{"a": 1}'
    assert "author" not in metadata


def test_an_architecture_without_a_name_is_refused(tmp_path):
    pixart = {
        "transformer_blocks.0.attn.to_q.weight": (256, 256),
        "proj_out.weight": (64, 256),
    }
    source = save(tmp_path / "a.safetensors", weights(pixart))

    with pytest.raises(ConversionRefusedError) as caught:
        converted_once(source, "gguf_Q8_0", tmp_path)

    assert caught.value.reason is Reason.LAYOUT
