"""How far converted tensors are from their source.

Of each chunk a sample is decoded again and compared, its first rows: a part of a tensor that says of the whole
what there is to know, for a small part of the work.
"""

from __future__ import annotations

import math

import torch

from ..quantization import quality
from ..quantization.quality import Quality
from .encodings import Encoding, Scratch

# Elements of a chunk that are compared; whole units. More cost more than they say: decoding is slow.
SAMPLE_ELEMENTS = 1 << 13


def noted(quality: Quality) -> dict[str, float]:
    """Return what a sidecar says of a tensor: the error in parts of the source, and the cosine between both."""
    error = quality.relative_rmse if quality.source else math.sqrt(quality.error)
    return {"rmse": error, "cosine": quality.cosine}


def compare(
    values: torch.Tensor, data: torch.Tensor, scale: float, encoding: Encoding, scratch: Scratch
) -> Quality:
    """Compare the first elements of a chunk with what became of them.

    Args:
        values: The chunk's elements [n].
        data: Its bytes.
        scale: The tensor's scale.
        encoding: How the one became the other.
        scratch: Buffers of this thread.
    """
    units = min(max(SAMPLE_ELEMENTS // encoding.unit, 1), len(values) // encoding.unit)
    count = units * encoding.unit
    source = scratch.take("source", count, torch.float32).copy_(values[:count])
    sides = len(values) // encoding.unit * encoding.unit_bytes  # where the scales of blocks begin
    sample = data[: units * encoding.unit_bytes]
    if encoding.side_bytes:
        sample = torch.cat([sample, data[sides : sides + units * encoding.side_bytes]])
    return quality.compare(source, encoding.decode(sample, scale))
