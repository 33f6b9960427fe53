"""One connected client: its shared memory, its requests under way, its way out."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

from ..utils.log import get_logger
from .answer import Answer
from .errors import BadRequestError, DaemonError, RejectedError, WorkerDiedError
from .protocol.codec import encode
from .protocol.messages import Message, OfferArena
from .protocol.segments import Segment
from .protocol.worker_messages import DropArena, FreeSlots
from .transport.arena import MEMFD, SharedRegion, create_region
from .transport.channel import Channel
from .transport.ladder import INLINE
from .workers.process import WorkerProcess

log = get_logger("session")
_arena_numbers = itertools.count(1)
MAX_UNDER_WAY = 256  # requests of one client; more are not read from its socket


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
        self._replies: dict[WorkerProcess, tuple[int, SharedRegion]] = {}
        self._preparing = asyncio.Lock()

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
        if self.tier == INLINE or self._upload is None or self.closed:
            return None
        async with self._preparing:
            if process not in self._readers:
                await _offer_to_worker(process, *self._upload, "client")
                self._readers.append(process)
            if process not in self._replies:
                try:
                    region = create_region(self.tier, self._arena_bytes)
                except RejectedError as error:
                    self.demote(str(error))
                    return None
                self._replies[process] = (next(_arena_numbers), region)
                await _offer_to_worker(process, *self._replies[process], "daemon")
                await self._offer(self.channel, *self._replies[process], "daemon")
        return self._replies[process][0]

    def check_segments(self, segments: Sequence[Segment]) -> None:
        """Raise BadRequestError when a request refers to shared memory that is not its session's own."""
        own = self._upload[0] if self._upload else None
        if any(segment.slot is not None and segment.slot.arena != own for segment in segments):
            raise BadRequestError(
                "A request refers to shared memory that its connection does not own."
            )

    async def acknowledge(self, slots: Sequence[tuple[int, int, int]]) -> None:
        """Tell the workers which slots of their reply arenas the client has copied."""
        for process, (arena, _) in list(self._replies.items()):
            own = tuple(slot for slot in slots if slot[0] == arena)
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
        for process in self._readers:
            if self._upload is not None:
                await _post(process, DropArena(arena=self._upload[0]))
        for process, (arena, region) in self._replies.items():
            await _post(process, DropArena(arena=arena))
            region.close()
        if self._upload is not None:
            self._upload[1].close()
        self._readers, self._replies, self._upload = [], {}, None

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
