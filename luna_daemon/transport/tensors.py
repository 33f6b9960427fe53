"""Tensor ⇄ segment: its bytes in the order they have in memory, so that the layout survives.

A contiguous copy of a channels-last tensor is not the same to what comes next: convolutions choose
their algorithm by layout, and results differ in the last bit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence

import torch

from ..errors import BadRequestError
from ..protocol.segments import ITEM_SIZE, Segment
from .arena import ArenaReader, ArenaWriter
from .result_memory import MIN_BYTES, ResultMemory

# Below this a tensor always travels inside the frame: the arena gains nothing.
ARENA_MIN_BYTES = 64 * 1024


def pack(
    tensors: Sequence[torch.Tensor], arena: ArenaWriter | None = None
) -> tuple[tuple[Segment, ...], list[memoryview]]:
    """Describe tensors and put their bytes into the arena, or return them for the frame.

    Args:
        tensors: Dense tensors of any device and layout; they are copied to the CPU.
        arena: Where large ones go. One that finds no room there goes into the frame.

    Returns:
        Segments in the order of `tensors`, and the memory of those that travel in the frame.

    Raises:
        BadRequestError: A tensor is sparse, quantised, complex or of another type that cannot be sent.
    """
    segments: list[Segment] = []
    payloads: list[memoryview] = []
    for tensor in tensors:  # before the first slot is taken, which nobody would free
        _check_sendable(tensor)
    for tensor in tensors:
        order, flat = flatten(tensor)
        reserved = (
            arena.allocate(len(flat))
            if arena is not None and len(flat) >= ARENA_MIN_BYTES
            else None
        )
        if reserved is None:
            payloads.append(flat.numpy().data)
        else:
            _copy(_from_bytes(reserved[1]), flat)
        segments.append(
            Segment(
                dtype=_dtype_name(tensor),
                shape=tuple(tensor.shape),
                order=order,
                nbytes=len(flat),
                slot=reserved[0] if reserved else None,
            )
        )
    return tuple(segments), payloads


def unpack(
    segments: Sequence[Segment],
    payloads: Sequence[memoryview],
    arenas: Mapping[int, ArenaReader] | None = None,
    memory: ResultMemory | None = None,
) -> list[torch.Tensor]:
    """Return the tensors that a frame brought, each with memory of its own.

    Args:
        segments: What the frame lists.
        payloads: The memory of those that travelled in the frame.
        arenas: Where the others lie.
        memory: Where large ones of these are copied to; default: memory that torch takes.

    Raises:
        BadRequestError: A segment refers to shared memory that is not there or was used anew.
        OutOfMemoryError: There is no memory for a copy.
    """
    inline = iter(payloads)
    tensors = []
    for segment in segments:
        if segment.slot is None:
            tensors.append(_restore(_inline(next(inline), segment), segment))
        else:
            reader = (arenas or {}).get(segment.slot.arena)
            if reader is None:
                raise BadRequestError(
                    "A tensor lies in shared memory that is not shared with this side."
                )
            view = reader.view(segment.slot, segment.nbytes)
            flat = _room(segment.nbytes, memory)
            _copy(flat, _from_bytes(view))
            reader.check(segment.slot, segment.nbytes)
            tensors.append(_restore(_typed(flat, segment), segment))
    return tensors


def _check_sendable(tensor: torch.Tensor) -> None:
    plain = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta
    if not plain or _dtype_name(tensor) not in ITEM_SIZE:
        raise BadRequestError(
            f"A tensor of type {tensor.dtype} and layout {tensor.layout} on {tensor.device} "
            "cannot be sent to another process."
        )


def flatten(tensor: torch.Tensor) -> tuple[tuple[int, ...], torch.Tensor]:
    """Return the order of the dimensions in memory, and the bytes as a flat uint8 CPU tensor.

    Raises:
        BadRequestError: The tensor is of a kind that cannot be sent.
    """
    _check_sendable(tensor)
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu()
    order = _order(tensor)
    memory = tensor.permute(order)
    if not memory.is_contiguous():  # holes or overlaps: torch says which order comes of that
        tensor = tensor.clone()
        order = _order(tensor)
        memory = tensor.permute(order).contiguous()
    # Not reshape(-1): it keeps a stride that only sizes of one have, and such memory has no byte view.
    return order, memory.as_strided((memory.numel(),), (1,)).view(torch.uint8)


def _order(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return the dimensions from the outermost in memory to the innermost.

    Of equal strides, a size of one is the inner one: so its stride comes back too, and torch, which looks at
    it, still takes a channels-last image of one channel for channels-last.
    """
    strides, sizes = tensor.stride(), tensor.shape
    return tuple(sorted(range(tensor.dim()), key=lambda d: (-strides[d], sizes[d] == 1, d)))


def _inline(data: memoryview, segment: Segment) -> torch.Tensor:
    """Return a frame's bytes as flat elements, in the same memory."""
    if not len(data) or segment.dtype == "bool":
        return _typed(_from_bytes(data), segment)
    return torch.frombuffer(data, dtype=getattr(torch, segment.dtype))  # one view fewer


def _typed(flat: torch.Tensor, segment: Segment) -> torch.Tensor:
    dtype = getattr(torch, segment.dtype)
    # A byte other than 0 or 1 is not a bool that torch may see.
    return flat != 0 if dtype is torch.bool else flat.view(dtype)


def _restore(typed: torch.Tensor, segment: Segment) -> torch.Tensor:
    """Return flat elements as the tensor that they were."""
    if segment.order == tuple(range(len(segment.order))):  # as most have it
        return typed.resize_(segment.shape)  # as many elements; a view would be one tensor more
    inverse = [segment.order.index(d) for d in range(len(segment.order))]
    return typed.reshape([segment.shape[d] for d in segment.order]).permute(inverse)


def _room(nbytes: int, memory: ResultMemory | None) -> torch.Tensor:
    if memory is not None and nbytes >= MIN_BYTES:
        return _from_bytes(memory.take(nbytes))
    return torch.empty(nbytes, dtype=torch.uint8)


def _copy(target: torch.Tensor, source: torch.Tensor) -> None:
    """Copy bytes. The C library does it faster than torch, for it leaves the target out of the caches."""
    ctypes.memmove(target.data_ptr(), source.data_ptr(), len(source))


def _from_bytes(data: memoryview) -> torch.Tensor:
    if not len(data):
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(data, dtype=torch.uint8)


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
