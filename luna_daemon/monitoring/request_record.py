"""What a finished request leaves behind: counts, a duration, a line in the log.

Prompts are never logged; of tensors only their shapes.
"""

from __future__ import annotations

import logging
import time
from typing import Any, get_args

from ...utils.log import get_logger
from ..answer import Answer
from ..errors import CanceledError, DeadlineError
from ..protocol.messages import Request, Run, RunDone
from ..protocol.names import wire_name
from ..protocol.segments import Segment
from ..protocol.work import AnyWork, CallModel, Echo, EncodeText
from ..sessions import Session
from ..supervisor import Supervisor
from ..transport.ladder import INLINE
from .metrics import Metrics
from .request_trace import Trace

log = get_logger("request")
MODEL_CALLS = tuple(wire_name(kind.__name__) for kind in get_args(AnyWork) if kind is not Echo)
MAX_SHAPES = 8  # of one request in the log


def open_trace(session: Session, request: Request) -> Trace:
    """Return the trace of a request that has just come."""
    asked = request.work if isinstance(request, Run) else request
    return Trace(
        session=session.number,
        request=request.id,
        operation=wire_name(type(asked).__name__),
        workflow_id=getattr(request, "workflow_id", ""),
    )


def record(
    daemon: Supervisor, session: Session, trace: Trace, request: Request, answer: Answer | None
) -> None:
    """Note how a request was answered; None: it was given up."""
    message = answer.message if answer else None
    code = CanceledError.code if message is None else getattr(message, "code", "")
    seconds = time.monotonic() - trace.started_at
    _count(daemon.metrics, trace.operation, seconds, code)
    done = message if isinstance(message, RunDone) else None
    if not isinstance(request, Run):
        log.debug("%s: %.1f ms, %s", trace.operation, seconds * 1000, code or "answered")
        return
    if done is not None:
        _count_result(daemon.metrics, session, request, done)
    slow = 0 < daemon.config.slow_request_s < seconds
    if slow or log.isEnabledFor(logging.DEBUG):
        details = _details(trace, request, done)
        details.update(outcome=code or "answered", total_s=round(seconds, 4))
        log.log(
            logging.WARNING if slow else logging.DEBUG,
            "%s%s: %s",
            "slow request: " if slow else "",
            trace.operation,
            ", ".join(f"{name} {value}" for name, value in details.items()),
            extra={"operation": trace.operation, **details},
        )


def _count(metrics: Metrics, operation: str, seconds: float, code: str) -> None:
    metrics.observe("request", seconds, operation=operation)
    if not code:
        metrics.count("request_success", operation=operation)
        return
    metrics.count("request_failure", operation=operation, reason=code)
    if code == DeadlineError.code:
        metrics.count("deadline_expired")
    elif code == CanceledError.code:
        metrics.count("cancelled")


def _count_result(metrics: Metrics, session: Session, request: Run, done: RunDone) -> None:
    if isinstance(request.work, EncodeText) or (
        isinstance(request.work, CallModel) and request.work.kind == "clip"
    ):
        metrics.count("conditioning_cache_hit" if done.cache_hit else "conditioning_cache_miss")
    best = INLINE
    for direction, segments in (("in", request.segments), ("out", done.segments)):
        nbytes: dict[str, int] = {}
        for segment in segments:
            tier = INLINE if segment.slot is None else session.shared_tier
            best = best if tier == INLINE else tier
            nbytes[tier] = nbytes.get(tier, 0) + segment.nbytes
        for tier, amount in nbytes.items():
            metrics.count("bytes", amount, tier=tier, direction=direction)
    metrics.count("transport_requests", tier=best)


def _details(trace: Trace, request: Run, done: RunDone | None) -> dict[str, Any]:
    """Return what may explain how long a model call took. Seconds; None: it never came so far."""
    shapes = [_shape(segment) for segment in request.segments[:MAX_SHAPES]]
    texts = {"texts": len(request.work.texts)} if isinstance(request.work, EncodeText) else {}
    return {
        "queue_s": round(trace.queue_s(time.monotonic()), 4),
        "compute_s": None if done is None else round(done.compute_ms / 1000, 4),
        "shapes": shapes,
        **texts,
        "cache_hit": done is not None and done.cache_hit,
    }


def _shape(segment: Segment) -> str:
    return f"{segment.dtype}{list(segment.shape)}"
