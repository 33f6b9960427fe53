"""A request on its way through a device's queue to a worker and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..monitoring.request_trace import Trace, current_trace
from ..protocol.messages import Request
from ..protocol.segments import Segment
from ..protocol.work import AnyWork
from ..protocol.worker_messages import ModelSpec
from ..scheduler.batching import Ticket
from .process import Reply, WorkerProcess


class ReplyPath(Protocol):
    """How results get back to a client: the shared memory between it and a worker."""

    async def prepare(self, process: WorkerProcess) -> int | None:
        """Map the connection's arenas in the worker; return the arena for its reply, if any."""


@dataclass(slots=True, eq=False)
class Job:
    """One unit of a device's work. Without `work` it only brings the models into memory.

    `future` gets the worker's reply, or the error. `attempts`: how often its worker ended; `kills`: how
    often while the job was at work.
    """

    ticket: Ticket
    model_type: str
    specs: Mapping[str, ModelSpec]  # role → model
    work: AnyWork | None
    future: asyncio.Future[Reply | None]
    segments: tuple[Segment, ...] = ()
    payloads: tuple[memoryview, ...] = ()
    reply_path: ReplyPath | None = None  # needed when any tensor travels through shared memory
    reply_in_arena: bool = False
    reply_arena: int | None = None
    inline_bytes: int = 0  # a result of so few bytes comes inline, whatever it might
    idempotency_key: str = ""
    on_progress: Callable[[int, int], None] | None = None
    on_notice: Callable[[str], None] | None = None
    attempts: int = 0
    kills: int = 0
    running: tuple[WorkerProcess, int] | None = None  # where, and under which request id
    ran_on: WorkerProcess | None = None  # whose reply `future` has
    loaded_now: list[str] = field(default_factory=list)  # roles that had to be loaded
    trace: Trace | None = field(default_factory=current_trace)  # of the request that it came with

    def __post_init__(self) -> None:
        if self.trace is not None:
            self.trace.queued_at = self.ticket.enqueued_at

    @property
    def done(self) -> Request | None:
        """What its worker has answered, if it has."""
        future = self.future
        answered = future.done() and not future.cancelled() and future.exception() is None
        reply = future.result() if answered else None
        return reply.message if reply is not None else None

    def fail(self, error: Exception) -> None:
        """Give the error to whoever waits, if anybody does."""
        if not self.future.done():
            self.future.set_exception(error)

    def finish(self, reply: Reply | None) -> None:
        """Give the reply to whoever waits, if anybody does."""
        if not self.future.done():
            self.future.set_result(reply)
