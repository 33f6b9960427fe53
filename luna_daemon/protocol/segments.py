"""Description of the raw bytes that travel beside a message.

A segment is the memory of one tensor: element type, shape, and the order of its dimensions in memory,
so that it arrives with the layout it had. Its bytes follow the header in the same frame, or lie in a
slot of a shared-memory arena.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from ..errors import ProtocolError

# Bytes per element of every element type that may cross the wire.
ITEM_SIZE = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
MAX_DIMENSIONS = 8
MAX_BYTES = 2**48
_ORDERS = tuple(tuple(range(dimensions)) for dimensions in range(MAX_DIMENSIONS + 1))

Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_BYTES)]
TensorRef = Annotated[int, msgspec.Meta(ge=0, le=65535)]  # index into the message's segments


class Slot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where in shared memory a segment lies. The generation tells a slot from its later reuse."""

    arena: Size
    offset: Size  # bytes from the arena's start to the slot's header
    generation: Size


class Segment(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One tensor's memory.

    `order[i]` is the dimension that is i-th in memory, slowest first: (0, 1, 2) is contiguous, and a
    channels-last image batch [B, C, H, W] is (0, 2, 3, 1).
    """

    dtype: str
    shape: tuple[Size, ...]
    order: tuple[Size, ...]
    nbytes: Size
    slot: Slot | None = None  # None: the bytes follow in the frame


def check_segment(segment: Segment) -> None:
    """Refuse a description that does not add up, before anything is allocated for it.

    Raises:
        ProtocolError: Unknown element type, too many dimensions, wrong order, wrong byte count, or more
            than any memory can hold.
    """
    item = ITEM_SIZE.get(segment.dtype)
    if item is None:
        raise ProtocolError(
            f"A tensor has the element type '{segment.dtype[:40]}', which cannot be sent."
        )
    shape = segment.shape
    if len(shape) > MAX_DIMENSIONS:
        raise ProtocolError(
            f"A tensor has {len(shape)} dimensions; at most {MAX_DIMENSIONS} can be sent."
        )
    order, in_order = segment.order, _ORDERS[len(shape)]
    if order != in_order and tuple(sorted(order)) != in_order:
        raise ProtocolError("A tensor's dimension order is not a permutation of its dimensions.")
    nbytes = math.prod(shape) * item
    # Also beside a size of 0, where there are no bytes: torch's own arithmetic would overflow.
    room = nbytes or math.prod([size or 1 for size in shape]) * item
    if room > MAX_BYTES:
        raise ProtocolError(f"A tensor of shape {list(shape)} is larger than any memory.")
    if nbytes != segment.nbytes:
        raise ProtocolError(
            f"A tensor of shape {list(shape)} and type {segment.dtype} "
            f"does not have {segment.nbytes} bytes."
        )


def inline_bytes(segments: tuple[Segment, ...]) -> int:
    """Sum of the bytes that follow the header in the frame."""
    return sum(segment.nbytes for segment in segments if segment.slot is None)
