"""Request → handler, in a table; and the one place where errors become replies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..utils.log import get_logger
from .answer import Answer
from .errors import DaemonError, InternalError
from .handlers import admin, work, workflows
from .protocol import messages as m
from .protocol.codec import failure
from .request_record import open_trace, record
from .request_trace import tracing
from .sessions import Session
from .supervisor import Supervisor

log = get_logger("dispatcher")
Handler = Callable[[Supervisor, Session, Any, tuple[memoryview, ...]], Awaitable[Answer]]


def _plain(handler: Callable[[Supervisor, Session, Any], Awaitable[Answer]]) -> Handler:
    """Adapt a handler of requests that carry no tensors."""
    return lambda daemon, session, request, payloads: handler(daemon, session, request)


HANDLERS: dict[type[m.Request], Handler] = {
    m.Ping: _plain(admin.ping),
    m.GetStatus: _plain(admin.status),
    m.Stop: _plain(admin.stop),
    m.RegisterWorkflow: _plain(workflows.register),
    m.ReleaseWorkflow: _plain(workflows.release),
    m.Run: work.run,
}


async def dispatch(
    daemon: Supervisor, session: Session, request: m.Request, payloads: tuple[memoryview, ...]
) -> Answer:
    """Return the answer to a request; every error becomes a `Failure`."""
    trace = open_trace(session, request)
    with tracing(trace):
        try:
            answer = await _answer(daemon, session, request, payloads)
        except asyncio.CancelledError:
            record(daemon, session, trace, request, None)
            raise
        record(daemon, session, trace, request, answer)
        return answer


async def _answer(
    daemon: Supervisor, session: Session, request: m.Request, payloads: tuple[memoryview, ...]
) -> Answer:
    try:
        return await HANDLERS[type(request)](daemon, session, request, payloads)
    except DaemonError as error:
        log.debug("%s", error)
        return Answer(failure(error, request.id))
    except Exception:  # boundary: a fault of ours answers one request, and the log has its trace
        log.exception("%s failed by our fault", type(request).__name__)
        ours = InternalError(
            "The daemon failed with this request.", "Its log has the details: luna-daemon logs."
        )
        return Answer(failure(ours, request.id))
