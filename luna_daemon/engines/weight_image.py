"""One copy of a model's weights for all worker processes of a device: an image in a memfd.

The first process that loads a model writes its weights into the image, each at a multiple of 64 bytes as
torch's own allocator would place it, and seals it: nobody can write, grow or shrink it after that. Every
process, the first included, then maps it privately. A process that did write into a weight would change
its own copy of that page and nobody else's.

The memory has no name. It ends with the last process that maps it or holds the descriptor, however that
process ends.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable, Mapping

import torch

from ..errors import InternalError

ALIGNMENT = 64
Weights = dict[str, torch.Tensor]


def shared_weights(
    fd: int,
    shapes: Mapping[str, torch.Size],
    dtype: torch.dtype,
    fill: Callable[[Mapping[str, torch.Tensor]], None],
) -> Weights:
    """Return the weights of an image, as views of a private mapping of it.

    Args:
        fd: The image; written here and sealed if it is not yet. The caller closes it.
        shapes: Name → shape, in the same order in every process.
        dtype: Of all weights.
        fill: Copies every weight into the tensors it is given. What it raises leaves the image unsealed.

    Raises:
        InternalError: The image is of another size than these weights.
    """
    places, nbytes = _layout(shapes, dtype)
    if not is_sealed(fd):
        _write(fd, nbytes, lambda memory: fill(_views(memory, shapes, dtype, places)))
    if os.fstat(fd).st_size != nbytes:
        raise InternalError(
            "The weights that another worker has shared are not of this model's size."
        )
    return _views(mmap.mmap(fd, nbytes, access=mmap.ACCESS_COPY), shapes, dtype, places)


def is_sealed(fd: int) -> bool:
    """Is the image complete?"""
    return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)


def _layout(shapes: Mapping[str, torch.Size], dtype: torch.dtype) -> tuple[dict[str, int], int]:
    places, end = {}, 0
    for name, shape in shapes.items():
        places[name] = end
        end += -(-shape.numel() * dtype.itemsize // ALIGNMENT) * ALIGNMENT
    return places, end


def _write(fd: int, nbytes: int, write: Callable[[mmap.mmap], None]) -> None:
    os.ftruncate(fd, nbytes)
    memory = mmap.mmap(fd, nbytes)
    write(memory)
    memory.close()  # no view of it is left; while one is mapped, it cannot be sealed
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def _views(
    memory: mmap.mmap, shapes: Mapping[str, torch.Size], dtype: torch.dtype, places: dict[str, int]
) -> Weights:
    return {
        name: torch.frombuffer(memory, dtype=dtype, count=shape.numel(), offset=places[name]).view(
            shape
        )
        if shape.numel()
        else torch.empty(shape, dtype=dtype)  # takes no memory, and frombuffer refuses it
        for name, shape in shapes.items()
    }
