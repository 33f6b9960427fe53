"""How far converted tensors are from their source.

Of each chunk a sample is decoded again and compared, taken from all over it: it says of the whole what there is to
know, for a small part of the work.
"""

from __future__ import annotations

import math

import torch

from ..quantization import quality
from ..quantization.quality import Quality
from .encodings import Encoding

# Elements of a chunk that are compared, about; whole units. More cost more than they say: decoding is slow.
SAMPLE_ELEMENTS = 1 << 13
_RUN = 256  # elements in a row that are compared, at least


def noted(quality: Quality) -> dict[str, float]:
    """Return what a sidecar says of a tensor: the error in parts of the source, and the cosine between both."""
    error = quality.relative_rmse if quality.source else math.sqrt(quality.error)
    return {"rmse": error, "cosine": quality.cosine}


def compare(values: torch.Tensor, data: torch.Tensor, scale: float, encoding: Encoding) -> Quality:
    """Compare a sample of a chunk's elements with what became of them.

    Args:
        values: The chunk's elements [n].
        data: Its bytes.
        scale: The tensor's scale.
        encoding: How the one became the other.
    """
    units = len(values) // encoding.unit
    in_run = min(max(_RUN // encoding.unit, 1), units)
    runs = units // in_run
    step = max(runs * in_run * encoding.unit // SAMPLE_ELEMENTS, 1)

    def sampled(part: torch.Tensor, unit_size: int) -> torch.Tensor:
        return part[: runs * in_run * unit_size].view(runs, -1)[::step].reshape(-1)

    sides = units * encoding.unit_bytes  # where the scales of blocks begin
    sample = sampled(data, encoding.unit_bytes)
    if encoding.side_bytes:
        sample = torch.cat([sample, sampled(data[sides:], encoding.side_bytes)])
    return quality.compare(sampled(values, encoding.unit), encoding.decode(sample, scale))
