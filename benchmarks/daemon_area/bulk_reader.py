"""The reading side of the bulk benchmark: maps an arena and reads what lies in its slots.

It is told of slots in frames as the daemon's messages are, and answers each with an empty one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import msgspec
import torch

from ...luna_daemon.errors import ConnectionLostError
from ...luna_daemon.protocol.segments import Segment
from ...luna_daemon.transport.arena import MEMFD, ArenaReader, attach_memfd, attach_named
from ...luna_daemon.transport.connection import Connection
from ...luna_daemon.transport.result_memory import ResultMemory
from ...luna_daemon.transport.tensors import unpack

PAGE_BYTES = 4096


class Announcement(msgspec.Struct):
    """Tensors that lie in the arena, and whether to copy them out."""

    copy: bool
    segments: tuple[Segment, ...]


def main(arguments: Sequence[str]) -> int:
    """Serve until the connection ends: `client|worker BACKING DESCRIPTOR|NAME BYTES CONNECTION`."""
    who, backing, place, nbytes, descriptor = arguments
    memory = ResultMemory() if who == "client" else None
    if backing == MEMFD:
        region = attach_memfd(os.dup(int(place)), int(nbytes))
    else:
        region = attach_named(place, int(nbytes))
    reader = ArenaReader(1, region)
    connection = Connection(socket.socket(fileno=int(descriptor)))
    decoder = msgspec.json.Decoder(Announcement)
    while True:
        try:
            announced = decoder.decode(connection.receive().header)
        except ConnectionLostError:
            return 0
        if announced.copy:
            unpack(announced.segments, (), {1: reader}, memory)
        else:
            for segment in announced.segments:
                _touch(reader, segment)
        connection.send(b"{}")


def _touch(reader: ArenaReader, segment: Segment) -> None:
    assert segment.slot is not None, "the benchmark's arena has room for it"
    view = reader.view(segment.slot, segment.nbytes)
    torch.frombuffer(view, dtype=torch.uint8)[::PAGE_BYTES].sum()
    reader.check(segment.slot, segment.nbytes)
