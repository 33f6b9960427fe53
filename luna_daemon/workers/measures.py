"""What the workers of one device do, in numbers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..monitoring.metrics import Metrics
from ..protocol.messages import Request
from ..protocol.names import wire_name
from ..protocol.worker_messages import JobDone, ModelSpec
from ..scheduler.residency import ResidentModel
from .jobs import Job


class Measures:
    """Tells the metrics, and the traces of requests, what happens on a device."""

    def __init__(self, metrics: Metrics, device: str) -> None:
        self._metrics = metrics
        self._device = device

    def rejected(self) -> None:
        """A request found the queue full."""
        self._metrics.count("queue_rejected", device=self._device)

    def restarted(self) -> None:
        """A process runs in place of a dead one."""
        self._metrics.count("worker_restarts", device=self._device)

    def loaded(self, spec: ModelSpec, seconds: float) -> None:
        """A worker has read a model into memory."""
        self._metrics.count("model_loads", role=_label(spec), device=self._device)
        self._metrics.observe("model_load", seconds, role=_label(spec))

    def evicted(self, model: ResidentModel | None) -> None:
        """A worker has dropped a model to make room."""
        if model is not None:
            self._metrics.count("model_evictions", role=_label(model.spec), device=self._device)

    def sent(self, group: Sequence[Job]) -> None:
        """A group of requests for one kind of work goes to a worker."""
        now = time.monotonic()
        for job in group:
            self._metrics.count("inference_count", operation=_operation(job))
            if job.attempts == 0:  # the second time the clock has run through the first try
                self._metrics.observe("queue", now - job.ticket.enqueued_at, device=self._device)
                if job.trace is not None:
                    job.trace.sent_at = now
        if group:
            self._metrics.count("exec_count", operation=_operation(group[0]))

    def done(self, job: Job, message: Request) -> None:
        """A worker has done a request's work."""
        if not isinstance(message, JobDone):
            return
        times = {
            "transport_in": message.unpack_ms,
            "compute": message.compute_ms,
            "transport_out": message.pack_ms,
        }
        for name, milliseconds in times.items():
            self._metrics.observe(name, milliseconds / 1000, operation=_operation(job))
        if message.arena_full:
            self._metrics.count("arena_full")


def _label(spec: ModelSpec) -> str:
    """Return what a model is called in metrics: the roles of parts are whatever a client says."""
    return spec.kind or spec.role


def _operation(job: Job) -> str:
    return wire_name(type(job.work).__name__)
