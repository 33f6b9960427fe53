"""One connected client: its shared memory, its requests under way, its way out."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from ..utils.log import get_logger
from .answer import Answer
from .errors import (
    BadRequestError,
    ConnectionLostError,
    DaemonError,
    RejectedError,
    WorkerDiedError,
)
from .protocol.codec import encode
from .protocol.messages import DropArena, Message, OfferArena
from .protocol.segments import Segment
from .protocol.worker_messages import FreeSlots
from .transport.arena import MEMFD, SharedRegion, create_region
from .transport.channel import Channel
from .transport.ladder import INLINE
from .workers.process import WorkerProcess

log = get_logger("session")
_arena_numbers = itertools.count(1)
MAX_UNDER_WAY = 256  # requests of one client; more are not read from its socket
LATE_READER_S = 60.0  # a client that has not looked at a reply for so long will not


@dataclass(frozen=True, slots=True)
class _ReplyArena:
    """What one worker fills and the client reads. `offer`: the sending of its announcement."""

    number: int
    region: SharedRegion
    offer: asyncio.Task[None]


class Session:
    """A client that has been let in.

    The client fills one arena that every worker reads; each worker fills one of its own that the client
    reads. Both are made with the first request that goes to a worker.
    """

    def __init__(self, number: int, channel: Channel, tier: str, arena_bytes: int) -> None:
        self.number = number
        self.channel = channel
        self.tier = tier
        self.shared_tier = tier  # how what lies in shared memory travels, also after a demotion
        self.pid = 0
        self.on_demoted: Callable[[str], None] | None = None  # is told the tier that was given up
        self.requests: dict[int, asyncio.Task[Answer]] = {}  # the work of each
        self.serving: set[asyncio.Task[None]] = set()  # work and sending of its answer
        self.closed = False
        self._arena_bytes = arena_bytes
        self._upload: tuple[int, SharedRegion] | None = None
        self._readers: list[WorkerProcess] = []  # workers that have mapped the client's arena
        self._replies: dict[WorkerProcess, _ReplyArena] = {}
        self._preparing = asyncio.Lock()
        self._telling: set[asyncio.Task[None]] = set()

    async def send(self, message: Message, payloads: Sequence[memoryview] = ()) -> None:
        """Send a message to the client."""
        await self.channel.send(encode(message), payloads)

    async def open_upload(self) -> None:
        """Give the client the arena that it fills; without room for one the session goes inline."""
        if self.tier == INLINE:
            return
        try:
            region = create_region(self.tier, self._arena_bytes)
        except RejectedError as error:
            self.demote(str(error))
            return
        self._upload = (next(_arena_numbers), region)
        await self._offer(self.channel, *self._upload, "client")

    async def prepare(self, process: WorkerProcess) -> int | None:
        """Let a worker map this session's arenas; return the one for its replies (None: inline).

        Raises:
            WorkerDiedError: The worker has ended.
        """
        async with self._preparing:
            if self._upload is None or self.closed:
                return None
            self._forget_the_dead()
            if process not in self._readers:
                await _offer_to_worker(process, *self._upload, "client")
                self._readers.append(process)
            if process not in self._replies and not await self._open_replies(process):
                return None
            return self._replies[process].number if self.tier != INLINE else None

    async def _open_replies(self, process: WorkerProcess) -> bool:
        """Make the arena that a worker fills; False when there is to be none."""
        if self.tier == INLINE:
            return False
        try:
            region = create_region(self.tier, self._arena_bytes)
        except RejectedError as error:
            self.demote(str(error))
            return False
        number = next(_arena_numbers)
        # Not awaited: a client that reads nothing must not hold up the worker. It is sent before the reply.
        offer = self._tell(self._offer(self.channel, number, region, "daemon"))
        self._replies[process] = _ReplyArena(number, region, offer)
        await _offer_to_worker(process, number, region, "daemon")
        return True

    def _forget_the_dead(self) -> None:
        """Give up the arenas of workers that have ended, once their last replies must have been read."""
        self._readers = [process for process in self._readers if not process.dead.done()]
        for process, arena in list(self._replies.items()):
            # With a memfd's offer goes the memory; a name that is removed too early cannot be mapped.
            wait_s = 0.0 if arena.region.backing == MEMFD else LATE_READER_S
            long_dead = process.dead.done() and time.monotonic() - process.last_sign >= wait_s
            if long_dead and arena.offer.done():
                del self._replies[process]
                arena.region.close()
                self._tell(self.send(DropArena(arena=arena.number)))

    def check_segments(self, segments: Sequence[Segment]) -> None:
        """Raise BadRequestError when a request refers to shared memory that is not its session's own."""
        if not segments:
            return
        own = self._upload[0] if self._upload else None
        if any(segment.slot is not None and segment.slot.arena != own for segment in segments):
            raise BadRequestError(
                "A request refers to shared memory that its connection does not own."
            )

    async def acknowledge(self, slots: Sequence[tuple[int, int, int]]) -> None:
        """Tell the workers which slots of their reply arenas the client has copied."""
        for process, arena in list(self._replies.items()):
            own = tuple(slot for slot in slots if slot[0] == arena.number)
            if own and not process.dead.done():
                await _post(process, FreeSlots(slots=own))

    def demote(self, reason: str) -> None:
        """Use inline tensors from now on."""
        tier, self.tier = self.tier, INLINE
        if tier == INLINE:
            return
        log.warning(
            "session %d: tensors travel inside messages instead of '%s': %s",
            self.number,
            tier,
            reason,
        )
        if self.on_demoted:
            self.on_demoted(tier)

    async def close(self) -> None:
        """Drop what the client wanted, and the shared memory."""
        self.closed = True
        for task in list(self.requests.values()):
            task.cancel()
        await asyncio.gather(*self.requests.values(), return_exceptions=True)
        async with self._preparing:  # what a worker is being told of now must be dropped too
            readers, replies, upload = self._readers, self._replies, self._upload
            self._readers, self._replies, self._upload = [], {}, None
        for process in readers:
            if upload is not None:
                await _post(process, DropArena(arena=upload[0]))
        for process, arena in replies.items():
            await _post(process, DropArena(arena=arena.number))
            arena.region.close()
        if upload is not None:
            upload[1].close()

    def _tell(self, sending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Send a message beside; when the client has gone it no longer matters."""
        task = asyncio.create_task(sending)
        self._telling.add(task)
        task.add_done_callback(self._told)
        return task

    def _told(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ConnectionLostError):
            log.error("session %d could not be told of its memory", self.number, exc_info=error)

    async def _offer(self, channel: Channel, arena: int, region: SharedRegion, writer: str) -> None:
        offer = _offer(arena, region, writer)
        await channel.send(encode(offer), (), _fds(region))


def _offer(arena: int, region: SharedRegion, writer: str) -> OfferArena:
    return OfferArena(
        arena=arena,
        nbytes=region.nbytes,
        backing=region.backing,
        writer=writer,
        name=region.name if region.backing != MEMFD else "",
    )


def _fds(region: SharedRegion) -> list[int]:
    return [region.fd] if region.fd is not None else []


async def _offer_to_worker(
    process: WorkerProcess, arena: int, region: SharedRegion, writer: str
) -> None:
    await process.post(_offer(arena, region, writer), _fds(region))


async def _post(process: WorkerProcess, message: Message) -> None:
    """Tell a worker something that no longer matters once it is dead."""
    try:
        await process.post(message)
    except (WorkerDiedError, DaemonError):
        log.debug("%s has ended; it needs no message", process.name)
