"""A GGUF file → a state dict for ComfyUI's loaders, whose tensors are views of the mapped file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...utils.errors import ModelFileError
from ...utils.quantization.dequantize import PLAIN_TYPES, can_dequantize
from ...utils.weights.gguf_header import GgufHeader, GgufTensor, read_gguf_header
from ...utils.weights.gguf_names import translate
from ...utils.weights.gguf_shapes import model_shapes
from ...utils.weights.gguf_tokenizer import sentencepiece_model
from ...utils.weights.sampling_marks import marks_in
from .weight import GgufWeight, weight_of

SUFFIX = ".gguf"
_UMT5_WORDS = 250_000  # at least; the usual T5 has 32128
StateDict = dict[str, Tensor]


def is_gguf(path: Path) -> bool:
    """Is this the name of a GGUF file?"""
    return path.suffix.lower() == SUFFIX


def read_gguf(path: Path) -> StateDict:
    """Return the tensors of a file under the names that ComfyUI knows them by.

    Nothing is read before it is used, and nothing is copied but what has to be put in another order.

    Raises:
        ModelFileError: The file is missing, damaged, or of a kind that ComfyUI cannot use.
    """
    header = read_gguf_header(path)
    names = translate(path.name, header)
    check_types(path.name, header)
    data = _mapped(path)
    shapes = model_shapes(header)
    tensors: StateDict = {}
    for name, (stored, heads) in names.items():
        tensor = header.tensors[stored]
        begin, end = (header.data_begin + place for place in (tensor.begin, tensor.end))
        weight = weight_of(data[begin:end], tensor.type, shapes[stored])
        tensors[name] = _in_order(path.name, stored, weight, heads)
    marks = {mark: torch.empty(0) for mark in marks_in(header.metadata)}
    return {**tensors, **marks, **_tokenizer(path.name, header)}


def read_gguf_outlines(path: Path, real_up_to_bytes: int) -> StateDict:
    """Return the same as `read_gguf` on `meta`; only tensors that are small have values.

    Raises:
        ModelFileError: As `read_gguf`.
    """
    header = read_gguf_header(path)
    names = translate(path.name, header)
    check_types(path.name, header)
    tensors: StateDict = {}
    with path.open("rb") as file:
        for name, (stored, heads) in names.items():
            tensor = header.tensors[stored]
            nbytes = tensor.end - tensor.begin
            if nbytes > real_up_to_bytes:
                tensors[name] = _outline(tensor)
                continue
            file.seek(header.data_begin + tensor.begin)
            raw = (
                torch.frombuffer(bytearray(file.read(nbytes)), dtype=torch.uint8)
                if nbytes
                else torch.empty(0, dtype=torch.uint8)
            )
            found = _in_order(path.name, stored, weight_of(raw, tensor.type, tensor.shape), heads)
            tensors[name] = found.values() if isinstance(found, GgufWeight) else found
    return {**tensors, **_tokenizer(path.name, header)}


def check_types(file_name: str, header: GgufHeader) -> None:
    """Refuse a file with weights of a type that cannot be used.

    Raises:
        ModelFileError: There is one.
    """
    for name, tensor in header.tensors.items():
        if not can_dequantize(tensor.type):
            raise ModelFileError(
                f"'{file_name}' stores '{name[:80]}' as {tensor.type}, a type that no weights are stored in.",
                "Choose a file of the same model in another type, such as Q4_K_M or Q8_0.",
            )


def _tokenizer(file_name: str, header: GgufHeader) -> StateDict:
    """Return the tokenizer where ComfyUI takes it from the text encoder's file: that of a UMT5.

    ComfyUI has the one of the usual T5 itself, and takes a file that brings one for another model.
    """
    words = header.tensors.get("token_embd.weight")
    if header.architecture not in ("t5", "t5encoder") or words is None:
        return {}
    if words.shape[0] < _UMT5_WORDS:
        return {}
    model = bytearray(sentencepiece_model(file_name, header))
    return {"spiece_model": torch.frombuffer(model, dtype=torch.uint8)}


def _mapped(path: Path) -> Tensor:
    """Return a file's bytes, which are read when they are used; writes would not reach the file."""
    size = path.stat().st_size
    storage: Any = torch.UntypedStorage.from_file(str(path), False, size)
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (size,), (1,))


def _outline(tensor: GgufTensor) -> Tensor:
    dtype = PLAIN_TYPES.get(tensor.type, torch.float32)
    return torch.empty(tensor.shape, dtype=dtype, device="meta")


def _in_order(file_name: str, name: str, weight: Tensor, heads: int) -> Tensor:
    """Return a weight whose rows are in the order of the original model.

    llama.cpp's converter puts the two halves of each head's rows between each other.
    """
    if not heads:
        return weight
    rows = weight.shape[0]
    if rows % (2 * heads):
        raise ModelFileError(
            f"'{file_name}' says that '{name}' is of {heads} heads, but it has {rows} rows.",
            "Choose another file of the same model.",
        )
    order = torch.arange(rows).view(heads, rows // heads // 2, 2).transpose(1, 2).reshape(-1)
    if not isinstance(weight, GgufWeight):
        return weight[order]
    raw = weight.raw.view(rows, -1)[order].view(-1)
    return GgufWeight(raw, weight.kind, weight.shape, weight.dtype)
