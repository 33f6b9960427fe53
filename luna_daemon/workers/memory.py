"""The memory of one device: what its worker processes hold, and making room in it.

Moves (loads, sleeps, wakes, drops) of a device follow each other, over all its processes: two that went
on at once would each count on the room that the other takes. What is noted is what a process has
confirmed, so after a failure the books say what is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from ...utils.log import get_logger
from ..errors import DaemonError, InternalError, NotFoundError, WorkerDiedError
from ..monitoring.metrics import Metrics
from ..protocol.work import AnyWork, EncodeText
from ..protocol.worker_messages import (
    Loaded,
    LoadModel,
    ModelSpec,
    Moved,
    MoveModel,
    UnloadModel,
)
from ..scheduler.activation import estimate, first_guess
from ..scheduler.residency import (
    DEVICE,
    RAM,
    Budget,
    Move,
    Plan,
    Residency,
    plan_room,
    refuse_load,
    refuse_run,
    used_bytes,
)
from .jobs import Job
from .measures import Measures
from .process import WorkerProcess
from .weight_images import WeightImages

log = get_logger("worker")


class Holder(Protocol):
    """A worker, as far as memory goes. `running_bytes`: what it takes beside weights just now."""

    name: str
    process: WorkerProcess | None
    residency: Residency
    at_work: frozenset[str]  # keys of the models that its requests need
    running_bytes: int


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """What a device's models may take.

    `strict`: refuse a run that would exceed the budget, even if the machine might have room for it.
    `shares_weights`: its workers share one copy of a model's weights.
    """

    device: str
    budget: Budget
    strict: bool = False
    shares_weights: bool = False


class DeviceMemory:
    """What the workers of one device hold."""

    def __init__(
        self,
        settings: MemorySettings,
        is_leased: Callable[[str], bool],
        measures: Measures | None = None,
        is_unchanged: Callable[[ModelSpec], Awaitable[bool]] | None = None,
    ) -> None:
        self.settings = settings
        self.holders: list[Holder] = []
        self._largest: dict[str, int] = {}  # model → the most that a request has taken beside it
        self._is_leased = is_leased
        self._measures = measures or Measures(Metrics(), settings.device)
        self._is_unchanged = is_unchanged
        self._moves = asyncio.Lock()
        self._images = WeightImages() if settings.shares_weights else None

    @property
    def weight_bytes(self) -> int:
        """What the weights on the device take."""
        return self._used(DEVICE)

    @property
    def asleep_bytes(self) -> int:
        """What sleeping models take in RAM."""
        return self._used(RAM)

    @property
    def activation_bytes(self) -> int:
        """What the largest request so far of each worker's present models takes beside them."""
        return sum(
            max(
                (
                    max(first_guess(model.spec), self._largest.get(model.spec.key, 0))
                    for model in holder.residency.models()
                    if model.place == DEVICE
                ),
                default=0,
            )
            for holder in self.holders
        )

    @property
    def reserved_bytes(self) -> int:
        """What others on the device should leave free, what is taken now included."""
        return self.weight_bytes + self.activation_bytes

    def tidy(self) -> None:
        """Give up shared weights that no worker uses and no workflow holds."""
        if self._images is not None:
            in_use = {
                key for holder in self.holders for key in (*holder.residency, *holder.at_work)
            }
            self._images.keep(lambda key: key in in_use or self._is_leased(key))

    def close(self) -> None:
        """Give up all shared weights."""
        if self._images is not None:
            self._images.keep(lambda _: False)

    async def bring(self, holder: Holder, process: WorkerProcess, spec: ModelSpec) -> bool:
        """Have a model on the device, awake; True when it had to be loaded.

        Raises:
            RejectedError: What must stay leaves no room for it.
            NotFoundError: Its files have changed since it was registered.
            WorkerDiedError: The process has ended.
            DaemonError: It cannot be loaded. Nothing of it is left in memory.
        """
        if holder.residency.place_of(spec.key) == DEVICE:
            holder.residency.touch(spec.key)
            return False
        async with self._moves:
            if holder.residency.place_of(spec.key) == RAM:
                await self._wake(holder, process, spec)
                return False
            await self._load(holder, process, spec)
            return True

    async def admit(self, holder: Holder, jobs: Sequence[Job]) -> bool:
        """Make room for what jobs take beside the weights; False when they have to run one by one.

        Pictures are never refused: a VAE that runs out of memory goes on in smaller parts.

        Raises:
            RejectedError: Not even one of them fits, and the budget is strict.
        """
        needs = [self._need(job) for job in jobs]
        for job, need in zip(jobs, needs, strict=True):
            for spec in job.specs.values():
                self._largest[spec.key] = max(self._largest.get(spec.key, 0), need)
        joined = jobs and isinstance(jobs[0].work, EncodeText)
        largest = max(needs, default=0)
        together = sum(needs) if joined else largest
        plan = await self._room_to_run(holder, together)
        holder.running_bytes = together
        if plan is None or not plan.missing_bytes or not joined:
            return True
        holder.running_bytes = largest
        if self.settings.strict and plan.missing_bytes > together - largest:
            raise refuse_run(largest, plan, self.settings.budget)
        return False

    def _need(self, job: Job) -> int:
        shapes = [segment.shape for segment in job.segments]
        single = self.settings.device == "cpu"  # there a batch of pictures is not quicker
        return estimate(cast("AnyWork", job.work), job.specs.values(), shapes, single=single)

    async def _room_to_run(self, holder: Holder, need_bytes: int) -> Plan | None:
        """Make what room there can be; None when there was enough."""
        taken = self.weight_bytes + self._running_bytes(holder) + need_bytes
        if taken <= self.settings.budget.device_bytes:
            return None  # the usual case, without looking at who holds what
        async with self._moves:
            plan = self._plan(holder, need_bytes)
            await self._carry_out(plan)
        return plan

    async def _load(self, holder: Holder, process: WorkerProcess, spec: ModelSpec) -> None:
        await self._make_room(holder, spec)
        fds = () if self._images is None else (self._images.fd_for(spec.key),)
        load = LoadModel(id=process.next_id(), spec=spec, image=bool(fds))
        reply = await process.request(load, fds=fds)
        try:
            if not isinstance(reply.message, Loaded):
                raise InternalError("The worker answered a load with something else.")
            if self._is_unchanged is not None and not await self._is_unchanged(spec):
                raise NotFoundError(
                    f"The files of the model for '{spec.role}' have changed since it was registered.",
                    "Register the workflow again (get_model_proxies) to use the new ones.",
                )
        except BaseException:  # boundary: cancelled too, what was half loaded goes; raised again
            if self._images is not None:
                self._images.drop(spec.key)
            await process.request(UnloadModel(id=process.next_id(), key=spec.key))
            raise
        holder.residency.add(spec, reply.message.nbytes)
        self._measures.loaded(spec, reply.message.seconds)
        log.info(
            "%s: loaded %s in %.1f s, %d MB",
            holder.name,
            spec.role,
            reply.message.seconds,
            reply.message.nbytes >> 20,
        )

    async def _wake(self, holder: Holder, process: WorkerProcess, spec: ModelSpec) -> None:
        await self._make_room(holder, spec)
        reply = await process.request(MoveModel(id=process.next_id(), key=spec.key, place=DEVICE))
        if not isinstance(reply.message, Moved):
            raise InternalError("The worker answered a move with something else.")
        holder.residency.move(spec.key, DEVICE)
        holder.residency.touch(spec.key)
        log.info("%s: woke %s in %.1f s", holder.name, spec.role, reply.message.seconds)

    async def _make_room(self, holder: Holder, spec: ModelSpec) -> None:
        plan = self._plan(holder, 0 if self._is_shared(spec.key) else spec.nbytes)
        if plan.missing_bytes:
            raise refuse_load(spec, plan, self.settings.budget)
        await self._carry_out(plan)

    def _plan(self, holder: Holder, need_bytes: int) -> Plan:
        return plan_room(
            [one.residency for one in self.holders],
            need_bytes + self._running_bytes(holder),
            self.settings.budget,
            self._must_stay(),
            shared=self.settings.shares_weights,
        )

    def _is_shared(self, key: str) -> bool:
        """Is the model in some worker, so that another that loads it takes no more memory?"""
        return self.settings.shares_weights and any(
            key in holder.residency for holder in self.holders
        )

    def _running_bytes(self, holder: Holder) -> int:
        """What the other workers take beside weights just now."""
        return sum(other.running_bytes for other in self.holders if other is not holder)

    def _must_stay(self) -> set[str]:
        held = {key for holder in self.holders for key in holder.residency if self._is_leased(key)}
        return held.union(*(holder.at_work for holder in self.holders))

    async def _carry_out(self, plan: Plan) -> None:
        for move in plan.moves:
            for holder in self.holders:
                if holder.residency.place_of(move.key) == move.source:
                    await self._move(holder, move)
        self.tidy()

    async def _move(self, holder: Holder, move: Move) -> None:
        process = holder.process
        if process is None or process.dead.done():
            return  # its memory is gone with it
        try:
            if move.target == RAM and await self._put_to_sleep(holder, process, move.key):
                return
            await process.request(UnloadModel(id=process.next_id(), key=move.key))
        except WorkerDiedError:
            log.debug("%s ended while a model left it", holder.name)
            return
        self._measures.evicted(holder.residency.remove(move.key))
        self._largest.pop(move.key, None)
        log.info("%s: dropped a model that no workflow holds, to make room", holder.name)

    async def _put_to_sleep(self, holder: Holder, process: WorkerProcess, key: str) -> bool:
        try:
            await process.request(MoveModel(id=process.next_id(), key=key, place=RAM))
        except WorkerDiedError:
            raise
        except DaemonError as error:
            log.warning("%s: a model cannot sleep in RAM and is dropped: %s", holder.name, error)
            return False
        holder.residency.move(key, RAM)
        log.info("%s: a model that no workflow holds sleeps in RAM now", holder.name)
        return True

    def _used(self, place: str) -> int:
        return used_bytes(
            [holder.residency for holder in self.holders],
            place,
            shared=self.settings.shares_weights,
        )
