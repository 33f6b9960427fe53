"""All workers: one queue per device, served by one worker or, under load, by several."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from ...utils.log import get_logger
from ..errors import (
    CanceledError,
    DeadlineError,
    DrainingError,
    InternalError,
    RejectedError,
    WorkerDiedError,
)
from ..monitoring.metrics import Metrics
from ..monitoring.request_trace import tracing
from ..protocol.worker_messages import JobDone, ModelSpec
from ..scheduler.batching import alone
from ..scheduler.fairness import FairQueue
from ..scheduler.placement import ScalingLimits, wants_fewer, wants_more
from .jobs import Job
from .measures import Measures
from .memory import DeviceMemory, MemorySettings
from .process import Reply, WorkerProcess
from .runner import MAX_ATTEMPTS, WorkerRunner, cancel, drop_result

log = get_logger("pool")
TICK_S = 0.25


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """What a device's workers are allowed."""

    device: str
    memory: MemorySettings
    limits: ScalingLimits
    max_queue: int
    max_batch: int
    heartbeat_s: float


class DeviceWorkers:
    """The queue of one device and the workers that serve it."""

    def __init__(
        self,
        settings: DeviceSettings,
        start: Callable[[str, str], Awaitable[WorkerProcess]],
        is_leased: Callable[[str], bool],
        metrics: Metrics | None = None,
        is_unchanged: Callable[[ModelSpec], Awaitable[bool]] | None = None,
    ) -> None:
        self.settings = settings
        self.measures = Measures(metrics or Metrics(), settings.device)
        self.queue = FairQueue(settings.max_queue, settings.max_batch)
        self.runners: dict[WorkerRunner, asyncio.Task[None]] = {}
        self.quarantine: set[str] = set()  # idempotency keys of requests that killed two workers
        self._start = start
        self.memory = DeviceMemory(settings.memory, is_leased, self.measures, is_unchanged)
        self._jobs: dict[int, Job] = {}
        self._work = asyncio.Condition()
        self._numbers = itertools.count()
        self._stopping = False

    async def run(self, job: Job) -> Reply | None:
        """Let a job wait for its turn and run; return the worker's reply.

        Raises:
            RejectedError: Too many wait.
            DaemonError: Whatever went wrong.
        """
        if self._stopping:
            raise DrainingError("The daemon is stopping.", "Start it again.")
        self.check_quarantine(job.idempotency_key)
        try:
            self.queue.push(job.ticket)
        except RejectedError:
            self.measures.rejected()
            raise
        self._jobs[job.ticket.id] = job
        try:
            self._ensure_runner()
            async with self._work:
                self._work.notify()
            return await job.future
        except asyncio.CancelledError:
            await drop_result(job)
            await self.cancel(job)
            raise
        finally:
            self._jobs.pop(job.ticket.id, None)

    def check_quarantine(self, idempotency_key: str) -> None:
        """Raise WorkerDiedError for a request that two worker processes have died of."""
        if idempotency_key and idempotency_key in self.quarantine:
            raise WorkerDiedError(
                "This request ended two worker processes and is not run again.",
                "The daemon's log has the reason: luna-daemon logs.",
            )

    async def cancel(self, job: Job) -> None:
        """Drop a job that waits; stop one that runs."""
        if self.queue.remove(job.ticket.id) is not None:
            job.fail(CanceledError("The request was cancelled while it waited."))
            return
        await cancel(job)

    def warm_up(self) -> None:
        """Start the workers that are to be ready at all times."""
        while len(self.runners) < self.settings.limits.least:
            self._add_runner(warm=True)

    def tick(self, now: float) -> None:
        """Drop late requests; add or retire a worker."""
        for ticket in self.queue.expire(now):
            job = self._jobs.get(ticket.id)
            if job is not None:
                job.fail(DeadlineError("The request waited longer than it was allowed to."))
        self.memory.tidy()
        limits, count = self.settings.limits, len(self.runners)
        if wants_more(
            limits, count, self.queue.longest_wait(now), self.room_bytes, self._waiting_bytes()
        ):
            log.info("%s: requests wait; a further worker starts", self.settings.device)
            self._add_runner()
        for runner, task in list(self.runners.items()):
            idle = 0.0 if runner.busy else now - runner.idle_since
            if wants_fewer(limits, len(self.runners), idle):
                log.info("%s: %s has been idle and stops", self.settings.device, runner.name)
                del self.runners[runner]
                task.cancel()

    async def stop(self, timeout_s: float) -> None:
        """Take no more work, let what runs finish, and end the workers."""
        self._stopping = True
        for job in [j for j in self._jobs.values() if self.queue.remove(j.ticket.id)]:
            job.fail(DrainingError("The daemon is stopping.", "Start it again."))
        waiting = [job.future for job in self._jobs.values() if not job.future.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_s)
        tasks = list(self.runners.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.runners.clear()
        self.memory.close()

    @property
    def room_bytes(self) -> int:
        """What the device's budget has left, over all its workers."""
        return self.settings.memory.budget.device_bytes - self.memory.weight_bytes

    def _waiting_bytes(self) -> int:
        """What the models of the waiting requests would take in a further worker."""
        specs = {
            spec.key: spec.nbytes for job in self._jobs.values() for spec in job.specs.values()
        }
        return sum(specs.values())

    def _ensure_runner(self) -> None:
        if not self.runners:
            self._add_runner()

    def _add_runner(self, *, warm: bool = False) -> WorkerRunner:
        name = f"{self.settings.device}/{next(self._numbers)}"
        runner = WorkerRunner(
            name,
            lambda: self._start(name, self.settings.device),
            self.memory,
            self.settings.heartbeat_s,
        )
        runner.measures = self.measures
        with tracing(None):  # it serves more than the request that it begins with
            self.runners[runner] = asyncio.create_task(self._keep_running(runner, warm))
        return runner

    async def _keep_running(self, runner: WorkerRunner, warm: bool) -> None:
        self.memory.holders.append(runner)
        try:
            if warm:
                await self._warm(runner)
            while True:
                batch = await self._next_batch()
                retry = await self._serve(runner, batch)
                self._learn(batch)
                for job in retry:
                    job.ticket = alone(job.ticket)
                    self.queue.push_front(job.ticket)
                for job in batch:
                    if job.kills >= MAX_ATTEMPTS and job.idempotency_key:
                        self.quarantine.add(job.idempotency_key)
        finally:
            self.memory.holders.remove(runner)
            await runner.stop()

    async def _warm(self, runner: WorkerRunner) -> None:
        try:
            await runner.ensure_process()
        except WorkerDiedError as error:
            log.warning("%s It is tried again with the first request.", error)

    async def _serve(self, runner: WorkerRunner, batch: list[Job]) -> list[Job]:
        try:
            return await runner.serve(batch)
        except Exception:  # boundary: a fault in one batch must not end the device's service
            with tracing(batch[0].trace):
                log.exception("a batch of %d requests failed by our fault", len(batch))
            for job in batch:
                job.fail(
                    InternalError("The daemon failed with this request; its log has the details.")
                )
            return []

    def _learn(self, batch: list[Job]) -> None:
        """Tell the queue how long the batch took, if all of it was computed."""
        done = [message for job in batch if isinstance(message := job.done, JobDone)]
        if len(done) == len(batch) and not any(message.cache_hit for message in done):
            seconds = sum(message.compute_ms for message in done) / 1000
            self.queue.costs.observe(batch[0].ticket.key, len(batch), seconds)

    async def _next_batch(self) -> list[Job]:
        async with self._work:
            while True:
                jobs = [self._jobs[t.id] for t in self.queue.take() if t.id in self._jobs]
                jobs = [job for job in jobs if not job.future.done()]
                if jobs:
                    return jobs
                if not len(self.queue):
                    await self._work.wait()


class WorkerPool:
    """The workers of all devices."""

    def __init__(self, devices: Iterable[DeviceWorkers]) -> None:
        self.devices = {workers.settings.device: workers for workers in devices}
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after the queues, and start the workers that are to be ready."""
        self._ticking = asyncio.create_task(self._tick())
        for workers in self.devices.values():
            workers.warm_up()

    async def stop(self, timeout_s: float) -> None:
        """End all workers; what runs gets `timeout_s` to finish."""
        if self._ticking is not None:
            self._ticking.cancel()
        await asyncio.gather(*(workers.stop(timeout_s) for workers in self.devices.values()))

    def runners(self) -> list[WorkerRunner]:
        """Return all workers."""
        return [runner for workers in self.devices.values() for runner in workers.runners]

    async def renew(self) -> None:
        """Let all workers start again with the next request."""
        await asyncio.gather(*(runner.renew() for runner in self.runners()))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for workers in self.devices.values():
                workers.tick(now)
