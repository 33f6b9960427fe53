"""State dicts from GGUF files: mapped, with ComfyUI's names, in the order of the original model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
import torch
from luna_collection.luna_daemon.gguf_models.reading import read_gguf, read_gguf_outlines
from luna_collection.luna_daemon.gguf_models.weight import GgufWeight, in_values
from luna_collection.utils.errors import ModelFileError

Q8 = gguf.GGMLQuantizationType.Q8_0


def written(path: Path, architecture: str, tensors: dict[str, Any], **counts: int) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in counts.items():
        writer.add_uint32(f"{architecture}.attention.{key}", value)
    for name, values in tensors.items():
        if values.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(values, Q8), raw_dtype=Q8)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random(*shape: int) -> Any:
    return numpy.random.default_rng(sum(shape)).normal(size=shape).astype(numpy.float32)


def rounded(values: Any) -> torch.Tensor:
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(values, Q8), Q8))


def test_tensors_are_views_of_the_file(tmp_path):
    large, small = random(512, 256), random(7)
    path = written(tmp_path / "模型.gguf", "flux", {"img_in.weight": large, "img_in.bias": small})
    found = read_gguf(path)
    weight, bias = found["img_in.weight"], found["img_in.bias"]
    assert isinstance(weight, GgufWeight)
    assert torch.equal(weight.values(), rounded(large))
    assert torch.equal(bias, torch.from_numpy(small))
    assert weight.raw.untyped_storage().data_ptr() == bias.untyped_storage().data_ptr()
    before = path.read_bytes()
    bias.zero_()
    assert path.read_bytes() == before


def test_outlines_have_values_only_where_they_are_small(tmp_path):
    large, small = random(512, 256), random(7)
    path = written(tmp_path / "x.gguf", "flux", {"img_in.weight": large, "img_in.bias": small})
    outlines = read_gguf_outlines(path, 64 * 1024)
    assert outlines["img_in.weight"].is_meta
    assert torch.equal(outlines["img_in.bias"], torch.from_numpy(small))
    everything = read_gguf_outlines(path, 1 << 30)
    assert torch.equal(everything["img_in.weight"], rounded(large))
    for name, tensor in read_gguf(path).items():
        assert (outlines[name].shape, outlines[name].dtype) == (tensor.shape, tensor.dtype)


def turned(weights: Any, heads: int) -> Any:
    """Do what llama.cpp's converter does to the queries and keys of a Llama."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def test_the_heads_of_a_llama_are_turned_back(tmp_path):
    queries, keys, values = random(128, 64), random(32, 64), random(32, 32)
    tensors = {
        "blk.0.attn_q.weight": turned(queries, 8),
        "blk.0.attn_k.weight": turned(keys, 2),
        "blk.0.attn_v.weight": values,
    }
    path = written(tmp_path / "l.gguf", "llama", tensors, head_count=8, head_count_kv=2)
    for read in (read_gguf, lambda file: read_gguf_outlines(file, 1 << 30)):
        found = read(path)
        for name, wanted in (("q", queries), ("k", keys), ("v", values)):
            weight = found[f"model.layers.0.self_attn.{name}_proj.weight"]
            assert torch.equal(in_values(weight), rounded(wanted))


def test_heads_that_do_not_fit_are_refused(tmp_path):
    tensors = {"blk.0.attn_q.weight": random(128, 64), "blk.0.attn_k.weight": random(32, 64)}
    path = written(tmp_path / "l.gguf", "llama", tensors, head_count=24, head_count_kv=2)
    with pytest.raises(ModelFileError, match="of 24 heads, but it has 128 rows"):
        read_gguf(path)


def test_types_without_values_are_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "flux")
    raw = numpy.zeros((2, 292), dtype=numpy.uint8)
    writer.add_tensor("img_in.weight", raw, raw_dtype=gguf.GGMLQuantizationType.Q8_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for read in (read_gguf, lambda file: read_gguf_outlines(file, 0)):
        with pytest.raises(ModelFileError, match=r"'x\.gguf' stores 'img_in\.weight' as Q8_K"):
            read(tmp_path / "x.gguf")


def test_damaged_files_are_told_as_such(tmp_path):
    for content in (b"", b"GGUF", b"\x93" * 64):
        path = tmp_path / "x.gguf"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"x\.gguf"):
            read_gguf(path)
