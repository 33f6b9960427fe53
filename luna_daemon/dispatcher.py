"""Request → handler, in a table; and the one place where errors become replies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..utils.log import get_logger
from .answer import Answer
from .errors import DaemonError, InternalError
from .handlers import admin, work, workflows
from .monitoring.request_record import open_trace, record
from .monitoring.request_trace import tracing
from .protocol import messages as m
from .protocol.codec import failure
from .sessions import Session
from .supervisor import Supervisor

log = get_logger("dispatcher")
Handler = Callable[[Supervisor, Session, Any, tuple[memoryview, ...]], Awaitable[Answer]]


def _plain(handler: Callable[[Supervisor, Session, Any], Awaitable[Answer]]) -> Handler:
    """Adapt a handler of requests that carry no tensors."""
    return lambda daemon, session, request, payloads: handler(daemon, session, request)


# What waits for nothing is answered where it is read: a task costs more than such an answer.
AT_ONCE: dict[type[m.Request], Callable[[Supervisor, Session, Any], Answer | None]] = {
    m.Ping: admin.ping,
    m.Run: work.give_again,
}
HANDLERS: dict[type[m.Request], Handler] = {
    m.GetStatus: _plain(admin.status),
    m.Stop: _plain(admin.stop),
    m.RegisterWorkflow: _plain(workflows.register),
    m.ReleaseWorkflow: _plain(workflows.release),
    m.Run: work.run,
}


def answer_at_once(daemon: Supervisor, session: Session, request: m.Request) -> Answer | None:
    """Return the answer to a request that waits for nothing; None: it is one for `dispatch`."""
    handler = AT_ONCE.get(type(request))
    if handler is None:
        return None
    trace = open_trace(session, request)
    with tracing(trace):
        try:
            answer = handler(daemon, session, request)
        except Exception as error:  # noqa: BLE001  # boundary: as in `_answer`
            answer = _answer_to(error, request)
        if answer is not None:
            record(daemon, session, trace, request, answer)
    return answer


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
    except Exception as error:  # noqa: BLE001  # boundary: a fault of ours answers one request
        return _answer_to(error, request)


def _answer_to(error: Exception, request: m.Request) -> Answer:
    if isinstance(error, DaemonError):
        log.debug("%s", error)
        return Answer(failure(error, request.id))
    log.error("%s failed by our fault", type(request).__name__, exc_info=error)
    ours = InternalError(
        "The daemon failed with this request.", "Its log has the details: luna-daemon logs."
    )
    return Answer(failure(ours, request.id))
