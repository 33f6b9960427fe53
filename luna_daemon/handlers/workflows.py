"""Registering and releasing the models of a workflow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from ...utils.errors import InputError
from ...utils.log import get_logger
from ...utils.model_types import VAE_ROLE, find_model_type
from ..answer import Answer
from ..errors import BadRequestError, DrainingError, IncompatibleError
from ..part_files import part_spec, parts_of_models
from ..protocol.messages import Registered, RegisterWorkflow, Released, ReleaseWorkflow
from ..protocol.worker_messages import ModelSpec
from ..scheduler.batching import QueueKey, Ticket
from ..scheduler.workflows import Lease
from ..sessions import Session
from ..supervisor import Supervisor
from ..workers.jobs import Job
from .tickets import next_ticket

log = get_logger("workflows")


async def register(daemon: Supervisor, session: Session, request: RegisterWorkflow) -> Answer:
    """Claim a workflow's models and bring them into memory."""
    if daemon.draining:
        raise DrainingError("The daemon is stopping.", "Start it again.")
    _check_roles(request)
    if request.parts and daemon.engine != "comfy":
        raise IncompatibleError(
            f"The daemon runs the engine '{daemon.engine}', which cannot load objects of ComfyUI.",
            "Start it with comfyui_path set to ComfyUI's folder, or set daemon_mode to 'force_local'.",
        )
    async with daemon.agreeing:  # until our lease is there, and others have to heed it
        await daemon.agree_numerics(request.numerics, session.number)
        specs, roles = await asyncio.to_thread(_find, daemon, request)
        lease = Lease(session.number, request.workflow_id, request.model_type, specs)
        replaced = daemon.registry.register(lease)
    try:
        loaded = await _load(daemon, request, specs)
    except BaseException:  # boundary: cancelled or failed, the lease goes back; raised again
        daemon.registry.withdraw(lease, replaced)
        raise
    log.info(
        "workflow '%s' (%s) uses %s", request.workflow_id, request.model_type, ", ".join(specs)
    )
    keys = {role: specs[found].key for role, found in roles.items()}
    fresh = tuple(role for role, found in roles.items() if found in loaded)
    return Answer(Registered(id=request.id, models=keys, loaded_now=fresh))


async def release(daemon: Supervisor, session: Session, request: ReleaseWorkflow) -> Answer:
    """End a workflow's claim."""
    daemon.registry.lease(session.number, request.workflow_id)
    daemon.registry.release(session.number, request.workflow_id)
    return Answer(Released(id=request.id))


def _find(
    daemon: Supervisor, request: RegisterWorkflow
) -> tuple[dict[str, ModelSpec], dict[str, str]]:
    """Return what is to be loaded by role, and for each role of the request which of it that is."""
    if daemon.engine != "comfy":
        specs = {
            role: daemon.locator.spec(
                role, name, engine=daemon.engine, precision=daemon.precision_of(role)
            )
            for role, name in request.models.items()
        }
        return specs, {role: role for role in specs}
    numerics = daemon.numerics.current
    parts, roles = dict(request.parts), {role: role for role in request.parts}
    if request.models:
        precisions = {"clip": daemon.config.clip_precision, "vae": daemon.config.vae_precision}
        named, found = parts_of_models(request.models, request.model_type, precisions, numerics)
        parts.update(named)
        roles.update(found)
    digest, precision = daemon.numerics.digest, daemon.config.clip_precision
    specs = {
        role: part_spec(daemon.locator, role, part, digest, precision)
        for role, part in parts.items()
    }
    return specs, roles


def _check_roles(request: RegisterWorkflow) -> None:
    if not request.models and not request.parts:
        raise BadRequestError("The workflow names no model.", "Name at least one.")
    if not request.models:
        return  # whole objects of ComfyUI, which knows what belongs together
    try:
        model_type = find_model_type(request.model_type)
    except InputError as error:
        raise BadRequestError(error.message, error.hint) from error
    wanted = model_type.text_encoders
    given = {role for role in request.models if role != VAE_ROLE}
    if not given:
        return  # a workflow may use the daemon for its VAE alone
    if not model_type.joined:
        raise BadRequestError(
            f"The text encoders of {request.model_type} work together in a way that only ComfyUI knows.",
            "Use them from ComfyUI, with the Luna Model Router.",
        )
    missing = [role for role in wanted if role not in given]
    extra = [role for role in given if role not in wanted]
    if missing or extra:
        needs = " and ".join(wanted)
        wrong = (
            f"lacks {', '.join(missing)}" if missing else f"does not use {', '.join(sorted(extra))}"
        )
        raise BadRequestError(
            f"{request.model_type} needs the text encoders {needs}; the workflow {wrong}.",
            "Correct the models of the workflow, or its model type.",
        )


async def _load(
    daemon: Supervisor, request: RegisterWorkflow, specs: Mapping[str, ModelSpec]
) -> list[str]:
    """Load the models, on all devices at once; return the roles that were not in memory before."""
    by_device: dict[str, dict[str, ModelSpec]] = {}
    for role, spec in specs.items():
        device = daemon.placement.device_of(daemon.pool_of(spec))
        by_device.setdefault(device, {})[role] = spec
    jobs = {device: _load_job(daemon, request, models) for device, models in by_device.items()}
    runs = (daemon.pool.devices[device].run(job) for device, job in jobs.items())
    results = await asyncio.gather(*runs, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [role for job in jobs.values() for role in job.loaded_now]


def _load_job(daemon: Supervisor, request: RegisterWorkflow, specs: Mapping[str, ModelSpec]) -> Job:
    now = time.monotonic()
    ticket = Ticket(
        id=next_ticket(),
        workflow_id=request.workflow_id,
        key=QueueKey("load", tuple(sorted(spec.key for spec in specs.values()))),
        enqueued_at=now,
        deadline=now + daemon.config.load_timeout_s,
    )
    future = asyncio.get_running_loop().create_future()
    return Job(ticket, request.model_type, specs, None, future)
