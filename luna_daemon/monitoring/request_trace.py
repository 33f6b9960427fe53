"""What is known of one request while it is under way: for its log lines, the slow-request log and metrics.

The dispatcher opens a trace for each request. The trace goes with the request's task as a context
variable, so that every line that is logged there says whose it is, and with its jobs to the workers.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

_current: ContextVar[Trace | None] = ContextVar("luna_request", default=None)


@dataclass(slots=True, eq=False)
class Trace:
    """One request. Times are on the monotonic clock; None: it has not come so far."""

    session: int
    request: int
    operation: str  # what the request asks for, as it is called on the wire
    workflow_id: str = ""
    started_at: float = field(default_factory=time.monotonic)
    queued_at: float | None = None
    sent_at: float | None = None  # to a worker; the first time, when it ran twice

    def fields(self) -> dict[str, str | int]:
        """Return what a log line says of the request."""
        workflow = {"workflow": self.workflow_id} if self.workflow_id else {}
        return {**workflow, "session": self.session, "request": self.request}

    def queue_s(self, now: float) -> float:
        """Seconds that the request has waited in a queue until it was sent, or until now."""
        if self.queued_at is None:
            return 0.0
        return (now if self.sent_at is None else self.sent_at) - self.queued_at


def current_trace() -> Trace | None:
    """Return the trace of the request that this task works on, if it works on one."""
    return _current.get()


class tracing:  # noqa: N801  (used like a function; a generator would cost each request more)
    """Let everything in this block, and tasks that it starts, belong to a request, or to none."""

    __slots__ = ("_token", "_trace")

    def __init__(self, trace: Trace | None) -> None:
        self._trace = trace

    def __enter__(self) -> None:
        self._token = _current.set(self._trace)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
