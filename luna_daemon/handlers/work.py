"""Running a model for a workflow. One handler serves every kind of work."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import NamedTuple

import msgspec

from ..answer import Answer
from ..answer_cache import AnswerKey
from ..errors import (
    BadRequestError,
    DeadlineError,
    DrainingError,
    InternalError,
    NotFoundError,
)
from ..protocol.messages import Notice, Progress, Run, RunDone
from ..protocol.work import AnyWork, CallModel, Echo, EncodeText, FetchWeights
from ..protocol.worker_messages import JobDone, ModelSpec
from ..scheduler.batching import QueueKey, Ticket
from ..scheduler.workflows import Lease
from ..sessions import Session
from ..supervisor import Supervisor
from ..transport.ladder import INLINE
from ..workers.jobs import Job
from ..workers.pool import DeviceWorkers
from .tickets import next_ticket


class _Asked(NamedTuple):
    """A request that may be served: by whom, and with which models. `key`: of an answer that may be kept."""

    workers: DeviceWorkers
    lease: Lease
    specs: dict[str, ModelSpec]
    key: AnswerKey | None


def give_again(daemon: Supervisor, session: Session, request: Run) -> Answer | None:
    """Return the answer that was given to the same work before; None when it is not kept."""
    if not daemon.answers.may_keep(request.work) or request.deadline_s <= 0:
        return None
    asked = _asked(daemon, session, request)
    kept = daemon.answers.get(asked.key) if asked.key is not None else None
    if kept is None:
        return None
    asked.workers.check_quarantine(request.idempotency_key)
    daemon.metrics.count("answer_cache_hit")
    answer = RunDone(
        id=request.id,
        result=kept.result,
        notes=kept.notes,
        cache_hit=True,
        segments=kept.segments,
    )
    return Answer(answer, kept.payloads)


async def run(
    daemon: Supervisor, session: Session, request: Run, payloads: tuple[memoryview, ...]
) -> Answer:
    """Queue the work on the device that holds the workflow's models."""
    asked = _asked(daemon, session, request)
    job = _make_job(session, request, asked.lease, asked.specs, payloads)
    job.inline_bytes = 0 if asked.key is None else daemon.answers.largest
    try:
        reply = await asyncio.wait_for(asked.workers.run(job), request.deadline_s)
    except asyncio.TimeoutError as error:
        raise DeadlineError(
            f"The request was not finished within {request.deadline_s:g} s.",
            "Raise request_timeout_s, or look at 'luna-daemon status' for what the daemon is doing.",
        ) from error
    if reply is None or not isinstance(reply.message, JobDone):
        raise InternalError("A worker answered with something else than a result.")
    if asked.key is not None:
        daemon.answers.put(asked.key, reply)
    done = reply.message
    answer = RunDone(
        id=request.id,
        result=done.result,
        notes=done.notes,
        cache_hit=done.cache_hit,
        compute_ms=done.compute_ms,
        segments=done.segments,
    )
    return Answer(answer, reply.payloads)


def _asked(daemon: Supervisor, session: Session, request: Run) -> _Asked:
    """Say who can serve a request; raise what stands against it."""
    if daemon.draining:
        raise DrainingError("The daemon is stopping.", "Start it again.")
    _check_tensors(request)
    session.check_segments(request.segments)
    lease = daemon.registry.lease(session.number, request.workflow_id)
    pool = request.pool if isinstance(request.work, Echo) else request.work.pool
    workers = daemon.workers_of(pool)
    specs = _models_for(daemon, lease, request.work)
    return _Asked(workers, lease, specs, daemon.answers.key(specs, lease.model_type, request.work))


def _check_tensors(request: Run) -> None:
    """Every tensor field must point at a tensor that came with the request."""
    for name in _tensor_fields(type(request.work)):
        if getattr(request.work, name) >= len(request.segments):
            raise BadRequestError(
                f"The request's '{name}' refers to a tensor that it does not carry."
            )


@functools.cache
def _tensor_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(name for name in ("latent", "image", "tensor") if name in kind.__struct_fields__)


def _models_for(daemon: Supervisor, lease: Lease, work: AnyWork) -> dict[str, ModelSpec]:
    if isinstance(work, Echo):
        return {}
    if isinstance(work, (CallModel, FetchWeights)):
        return _models_named(daemon, lease, work)
    pool = work.pool
    # Of ComfyUI's objects those of the pool's own name: its CLIP vision models encode no texts.
    specs = {
        role: spec
        for role, spec in lease.models.items()
        if daemon.pool_of(spec) == pool and spec.kind in (None, pool)
    }
    if not specs:
        noun = {"clip": "a text encoder", "vae": "a VAE"}.get(pool, pool)
        raise BadRequestError(
            f"The workflow '{lease.workflow_id}' has registered no model for this: it needs {noun}.",
            "Name it in the models of get_model_proxies.",
        )
    return specs


def _models_named(
    daemon: Supervisor, lease: Lease, work: CallModel | FetchWeights
) -> dict[str, ModelSpec]:
    """Return the model that is called, and those whose weights its patch set refers to."""
    specs: dict[str, ModelSpec] = {}
    for role in (work.role, *work.also):
        spec = lease.models.get(role)
        if spec is None:
            raise NotFoundError(
                f"The workflow '{lease.workflow_id}' has registered no model as '{role}'.",
                "Run the workflow again.",
            )
        if daemon.workers_of(daemon.pool_of(spec)) is not daemon.workers_of(work.pool):
            raise BadRequestError(
                f"'{work.role}' and '{role}' are on different devices, so that one cannot be merged into the other.",
                "Set clip_device and vae_device of the daemon to the same device.",
            )
        specs[role] = spec
    return specs


def _make_job(
    session: Session,
    request: Run,
    lease: Lease,
    specs: dict[str, ModelSpec],
    payloads: tuple[memoryview, ...],
) -> Job:
    now = time.monotonic()
    ticket = Ticket(
        id=next_ticket(),
        workflow_id=request.workflow_id,
        key=queue_key(request, specs),
        enqueued_at=now,
        deadline=now + request.deadline_s,
        priority=request.priority,
        joins=isinstance(request.work, EncodeText),  # engines do all other work one by one
    )
    loop = asyncio.get_running_loop()

    def tell(event: Progress | Notice) -> None:
        task = loop.create_task(session.send(event))
        task.add_done_callback(lambda t: t.cancelled() or t.exception())

    return Job(
        ticket=ticket,
        model_type=lease.model_type,
        specs=specs,
        work=request.work,
        future=loop.create_future(),
        segments=request.segments,
        payloads=payloads,
        reply_path=session if _uses_arena(request) else None,
        reply_in_arena=request.reply_tier != INLINE,
        idempotency_key=request.idempotency_key,
        on_progress=lambda done, total: tell(Progress(id=request.id, done=done, total=total)),
        on_notice=lambda text: tell(Notice(id=request.id, text=text)),
    )


def _uses_arena(request: Run) -> bool:
    return request.reply_tier != INLINE or any(s.slot is not None for s in request.segments)


def queue_key(request: Run, specs: dict[str, ModelSpec]) -> QueueKey:
    """What must be equal for two requests to run in one go: all but the texts and tensors themselves.

    Calls of a ComfyUI object run one after the other; together they only go so that those with the same
    patch set share one change of the weights.
    """
    work = request.work
    if isinstance(work, (CallModel, FetchWeights)):
        return QueueKey(
            operation=work.kind,
            models=(specs[work.role].key,),
            patch_set=work.recipe.digest if work.recipe is not None else "",
        )
    fields = {
        name: value
        for name, value in msgspec.structs.asdict(work).items()
        if name not in ("texts", "latent", "image", "tensor")
    }
    return QueueKey(
        operation=type(work).__name__,
        models=tuple(sorted(spec.key for spec in specs.values())),
        options=repr(sorted(fields.items())),
        shape=tuple(size for segment in request.segments for size in segment.shape),
    )
