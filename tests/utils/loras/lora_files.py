"""Safetensors files for the tests: names and shapes as real LoRAs have them, zeros as weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4}


def write_lora(path: Path, shapes, metadata=None, dtype="F16", values=None) -> Path:
    """Write a file; `values` are the raw bytes of single tensors."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, shape in shapes.items():
        raw = (values or {}).get(name, bytes(math.prod(shape) * ITEM_BYTES[dtype]))
        span = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": span}
        data += raw
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def layer(name, rank=4, columns=8, rows=8, *, alpha=True):
    """Return names and shapes of one layer as kohya's scripts write it."""
    shapes = {
        f"{name}.lora_down.weight": (rank, columns),
        f"{name}.lora_up.weight": (rows, rank),
    }
    return {**shapes, f"{name}.alpha": ()} if alpha else shapes
