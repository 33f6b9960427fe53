"""GGUF files for tests, written byte by byte, so that nothing that is tested has made them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from luna_collection.utils.quantization.dequantize import dequantize
from luna_collection.utils.quantization.ggml_types import GGML_TYPES

ALIGNMENT = 32
HOLE = 1 << 20  # bytes
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Where a block has scales: offsets of numbers in half precision.
_SCALES = {
    "Q8_0": (0,),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
# Roughly what a block's numbers are multiplied with beside its scale.
_STEPS = {"Q8_0": 74, "Q6_K": 1400, "Q5_K": 550, "Q4_K": 280, "Q5_0": 9, "Q4_0": 5}

Entry = tuple[str, tuple[int, ...], bytes]  # element type, shape, bytes


def random_blocks(kind: str, shape: tuple[int, ...], spread: float, seed: int) -> bytes:
    """Return random bytes of an element type, whose values are of about this size."""
    generator = torch.Generator().manual_seed(seed)
    _, block, block_bytes = GGML_TYPES[kind]
    count = torch.Size(shape).numel() // block
    raw = torch.randint(0, 256, (count, block_bytes), generator=generator, dtype=torch.uint8)
    scale = spread / _STEPS.get(kind, 30)
    for offset in _SCALES[kind]:
        size = (torch.rand(count, 1, generator=generator) + 0.5) * scale
        raw[:, offset : offset + 2] = size.to(torch.float16).view(torch.uint8)
    return raw.numpy().tobytes()


def entry_of(tensor: torch.Tensor, kind: str, seed: int) -> Entry:
    """Return a tensor in a type; quantised ones get random numbers of the same size instead of its own."""
    shape = tuple(tensor.shape)
    if kind in PLAIN:
        values = tensor.to(PLAIN[kind]).contiguous().view(-1).view(torch.uint8)
        return kind, shape, values.numpy().tobytes()
    spread = float(tensor.float().std()) or 0.02
    return kind, shape, random_blocks(kind, shape, spread, seed)


def write_gguf(
    path: Path,
    architecture: str,
    entries: Mapping[str, Entry],
    metadata: Iterable[tuple[str, Any]] = (),
) -> Path:
    """Write a file; shapes that GGUF has not, or whose rows are no whole blocks, get their metadata."""
    fields: list[tuple[str, Any]] = [("general.architecture", architecture), *metadata]
    described, data, place = b"", [], 0
    for name, (kind, shape, content) in entries.items():
        stored = _stored_shape(kind, shape)
        if stored != shape:
            fields.append((f"comfy.gguf.orig_shape.{name}", list(shape)))
        padding = -len(content) % ALIGNMENT
        described += _text(name) + struct.pack("<I", len(stored))
        described += struct.pack(f"<{len(stored)}Q", *reversed(stored))
        described += struct.pack("<IQ", GGML_TYPES[kind].id, place)
        data += [content, b"\0" * padding]
        place += len(content) + padding
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(fields))
    head += b"".join(_text(key) + _value(value) for key, value in fields) + described
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head + b"\0" * (-len(head) % ALIGNMENT))
        for content in data:
            _write_with_holes(file, content)
        file.truncate()
    return path


def dequantised(entries: Mapping[str, Entry]) -> dict[str, torch.Tensor]:
    """Return the values of entries: quantised ones in float32, others as they are.

    That the numbers are those of the gguf package, tests of `dequantize` show.
    """
    found = {}
    for name, (kind, shape, content) in entries.items():
        raw = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        if kind in PLAIN:
            found[name] = raw.view(PLAIN[kind]).view(shape)
        else:
            found[name] = dequantize(raw, kind, shape)
    return found


def plain(entry: Entry) -> Entry:
    """Return an entry with the same values in float32."""
    values = dequantised({"": entry})[""].float().contiguous()
    return "F32", entry[1], values.numpy().tobytes()


def mixture(names: Mapping[str, torch.Tensor], kinds: Iterable[str]) -> dict[str, Entry]:
    """Return entries for a model: large matrices and convolutions take turns in these types."""
    turns = list(kinds)
    entries, turn = {}, 0
    for seed, (name, tensor) in enumerate(names.items()):
        kind = "F32" if tensor.dim() < 2 or tensor.numel() < 1024 else ""
        if not kind:
            kind = next(
                (
                    turns[(turn + step) % len(turns)]
                    for step in range(len(turns))
                    if tensor.numel() % GGML_TYPES[turns[(turn + step) % len(turns)]].block == 0
                ),
                "F16",
            )
            turn += 1
        entries[name] = entry_of(tensor, kind, seed)
    return entries


def _write_with_holes(file: BinaryIO, content: bytes) -> None:
    """Write bytes; long runs of zeros take no room on the disk."""
    for begin in range(0, len(content), HOLE):
        piece = content[begin : begin + HOLE]
        if piece.count(0) == len(piece):
            file.seek(len(piece), os.SEEK_CUR)
        else:
            file.write(piece)


def _stored_shape(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    block = GGML_TYPES[kind].block
    if len(shape) <= 4 and (not shape or shape[-1] % block == 0):
        return shape
    elements = torch.Size(shape).numel()
    return (elements // block, block) if block > 1 else (elements,)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    """Return a metadata value with its type: text, bool, whole number, or a list of one kind."""
    number, content = _typed(value)
    return struct.pack("<I", number) + content


def _typed(value: Any) -> tuple[int, bytes]:
    if isinstance(value, str):
        return 8, _text(value)
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 5, struct.pack("<i", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    items = [_typed(item) for item in value]
    kind = items[0][0] if items else 5
    return 9, struct.pack("<IQ", kind, len(items)) + b"".join(content for _, content in items)
