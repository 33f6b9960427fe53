"""Large tensors through shared memory, against the cost of copying them once."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import msgspec
import torch

from ...luna_daemon.transport.arena import MEMFD, NAMED, ArenaWriter, create_region, has_memfd
from ...luna_daemon.transport.connection import Connection
from ...luna_daemon.transport.tensors import pack
from ...luna_daemon.workers.environment import worker_environment
from ..clocks import calls_per_sample, cpu_cost
from ..entries import HIGHER, Bench, Entry, ratio_entry
from ..pairs import Result, compare
from .bulk_reader import Announcement
from .children import connected_child

ARENA_MB = 256  # the daemon's default
SIZES_MB = (1, 16, 64)
GOAL_MB = 64  # the size that has goals; smaller ones live in the processor's caches
GOAL_VIEWED, GOAL_COPIED = 0.80, 0.45
CLIENT, WORKER = "a client", "a worker"


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent, and how often for each sample."""

    tensor: torch.Tensor
    calls: int


class Sender:
    """The writing side: our process, and the one that reads."""

    def __init__(self, writer: ArenaWriter, connection: Connection, reader: int) -> None:
        self.reader = reader
        self._writer = writer
        self._connection = connection

    def send(self, tensor: torch.Tensor, *, copy: bool) -> None:
        """Put a tensor into the arena, let the other process read it, and take the room back."""
        segments, inline = pack([tensor], self._writer)
        assert not inline, "the arena has room for it"
        self._connection.send(msgspec.json.encode(Announcement(copy, segments)))
        self._connection.receive()
        for segment in segments:
            if segment.slot is not None:
                self._writer.free(segment.slot.offset, segment.slot.generation)


def measure(bench: Bench) -> Iterator[Entry]:
    """Compare a tensor's way through an arena with memcpy, for several sizes."""
    backing = MEMFD if has_memfd() else NAMED
    region = create_region(backing, ARENA_MB * 2**20)
    place = str(region.fd) if region.fd is not None else region.name
    fds = [region.fd] if region.fd is not None else []
    try:
        for who in (CLIENT, WORKER):
            env = worker_environment("cpu", 1, os.environ) if who == WORKER else os.environ
            arguments = ("bulk_reader", who.split()[-1], backing, place, str(region.nbytes))
            with connected_child(*arguments, env=env, fds=fds) as (sock, pid):
                sender = Sender(ArenaWriter(1, region), Connection(sock), pid)
                yield from _measure_reader(bench, sender, who)
    finally:
        region.close()


def _measure_reader(bench: Bench, sender: Sender, who: str) -> Iterator[Entry]:
    for size_mb in SIZES_MB:
        source = torch.ones(size_mb * 2**20, dtype=torch.uint8)
        target = torch.ones_like(source)  # every page of it has been touched
        # The fastest copy there is: torch's own takes some 15 % longer.
        memcpy = partial(ctypes.memmove, target.data_ptr(), source.data_ptr(), len(source))
        load = Load(source, calls_per_sample(memcpy, []))
        if who == CLIENT:
            viewed = _compare(bench, sender, load, memcpy, copy=False)
            yield _entry(viewed, size_mb, "viewed", GOAL_VIEWED, "touches every page")
        copied = _compare(bench, sender, load, memcpy, copy=True)
        reads = f"copies it out, with the memory settings of {who}"
        yield _entry(copied, size_mb, f"copied out by {who}", GOAL_COPIED, reads)
    if who == CLIENT:
        fresh = _compare(bench, sender, load, source.clone, copy=True)
        yield _fresh_entry(fresh, size_mb)


def _compare(
    bench: Bench,
    sender: Sender,
    load: Load,
    alternative: Callable[[], object],
    *,
    copy: bool,
) -> Result:
    """Return the cost of the alternative in units of the cost of the way through the arena."""

    def without() -> float:
        return cpu_cost(lambda: _repeat(alternative, load.calls), [])

    def through_arena() -> float:
        return cpu_cost(
            lambda: _repeat(partial(sender.send, load.tensor, copy=copy), load.calls),
            [sender.reader],
        )

    return compare(without, through_arena, bench.plan, bench.tell_pair)


def _entry(result: Result, size_mb: int, what: str, goal: float, reads: str) -> Entry:
    return ratio_entry(
        f"arena {size_mb} MB, {what} / memcpy",
        result,
        goal if size_mb == GOAL_MB else None,
        HIGHER,
        f"CPU time of copying {size_mb} MB in warm memory, over that of two processes of which one "
        f"writes them into a reused arena and the other {reads}.",
    )


def _fresh_entry(result: Result, size_mb: int) -> Entry:
    return ratio_entry(
        f"arena {size_mb} MB, copied out by {CLIENT} / copy into fresh memory",
        result,
        None,
        HIGHER,
        f"As the one before, but against a copy of {size_mb} MB into memory that the system has to give "
        f"first, as every new tensor of this size needs it in any process.",
    )


def _repeat(call: Callable[[], object], count: int) -> None:
    """Keep no result, so that each call gets its memory anew."""
    for _ in range(count):
        call()
