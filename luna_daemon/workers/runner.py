"""Keeps one worker process of a device at work: starts it, loads what a batch needs, runs the batch.

Loads and runs of one worker follow each other, so a model that several requests ask for at once is
loaded once, and nothing is evicted under a running request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from ...utils.log import get_logger
from ..errors import (
    CanceledError,
    DaemonError,
    WorkerDiedError,
)
from ..monitoring.metrics import Metrics
from ..monitoring.request_trace import tracing
from ..protocol.worker_messages import (
    CancelJob,
    FreeSlots,
    ModelSpec,
    RunJob,
)
from ..scheduler.residency import Residency
from ..scheduler.restarts import CrashBudget
from .jobs import Job
from .measures import Measures
from .memory import DeviceMemory
from .process import Reply, WorkerProcess

if TYPE_CHECKING:
    from ..protocol.work import AnyWork

log = get_logger("worker")
MAX_ATTEMPTS = 2


class WorkerRunner:
    """One worker of a device, through all its restarts.

    Args:
        name: For logs and status.
        start: Starts a process.
        memory: Of its device.
        heartbeat_s: A process without a sign of life for this long is replaced.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Awaitable[WorkerProcess]],
        memory: DeviceMemory,
        heartbeat_s: float,
    ) -> None:
        self.name = name
        self.process: WorkerProcess | None = None
        self.residency = Residency()
        self.crashes = CrashBudget()
        self.busy = False
        self.idle_since = time.monotonic()
        self.measures = Measures(Metrics(), name)  # until its device gives it the daemon's
        self.at_work: frozenset[str] = frozenset()
        self.running_bytes = 0
        self._memory = memory
        self._start = start
        self._heartbeat_s = heartbeat_s
        self._last_death: WorkerProcess | str = ""
        self._watch: asyncio.Task[None] | None = None

    @property
    def last_death(self) -> str:
        """Why its process ended the last time, or did not even start; "" when it never did."""
        last = self._last_death
        return last if isinstance(last, str) else last.end

    async def ensure_process(self) -> WorkerProcess:
        """Return the living process, starting one when there is none.

        Raises:
            WorkerDiedError: It does not start, or has died too often lately.
        """
        if self.process is not None and not self.process.dead.done():
            return self.process
        if self.process is not None:
            self._bury(self.process)
        now = time.monotonic()
        if self.crashes.exhausted(now):
            raise WorkerDiedError(
                f"The worker process '{self.name}' has died too often in the last minutes.",
                "The daemon's log says why: luna-daemon logs. Try again in two minutes.",
            )
        await asyncio.sleep(self.crashes.delay(now))
        try:
            self.process = await self._start()
        except WorkerDiedError as error:
            self.crashes.record(time.monotonic())
            self._last_death = error.message
            raise
        if self.crashes.total:
            self.measures.restarted()
        self._watch = asyncio.create_task(self._watch_over(self.process))
        return self.process

    async def serve(self, batch: Sequence[Job]) -> list[Job]:
        """Run jobs with equal queue keys; return those to try once more because the worker died."""
        self.busy = True
        specs = {spec.key: spec for job in batch for spec in job.specs.values()}
        self.at_work = frozenset(specs)
        try:
            return await self._serve(batch, specs)
        finally:
            self.busy = False
            self.at_work = frozenset()
            self.running_bytes = 0
            self.idle_since = time.monotonic()

    async def renew(self) -> None:
        """End the process, as nothing is wrong with it; the next request starts a fresh one."""
        process, self.process = self.process, None
        self.residency = Residency()
        if self._watch is not None:
            self._watch.cancel()
        if process is not None:
            await process.stop()

    async def stop(self) -> None:
        """End the process."""
        if self._watch is not None:
            self._watch.cancel()
        if self.process is not None:
            await self.process.stop()

    async def _serve(self, batch: Sequence[Job], specs: Mapping[str, ModelSpec]) -> list[Job]:
        try:
            process = await self.ensure_process()
        except WorkerDiedError as error:  # it does not even start: no request is to blame
            return self._after_death(batch, error, at_work=False)
        try:
            with tracing(batch[0].trace):  # who comes first pays for the loading
                loaded = [
                    spec.key
                    for spec in specs.values()
                    if await self._memory.bring(self, process, spec)
                ]
                together = await self._memory.admit(self, [job for job in batch if job.work])
        except WorkerDiedError as error:
            return self._after_death(batch, error)
        except DaemonError as error:
            for job in batch:
                job.fail(error)
            return []
        for job in batch:
            job.loaded_now = [role for role, spec in job.specs.items() if spec.key in loaded]
        ready = [job for job in batch if await self._prepare(process, job)]
        if together:
            return await self._run_group(process, ready)
        retry = []
        for job in ready:
            if not job.future.done():  # nobody has given it up while others ran
                retry += await self._run_group(process, [job])
        return retry

    async def _run_group(self, process: WorkerProcess, group: Sequence[Job]) -> list[Job]:
        """Run jobs side by side; return those to try once more."""
        self.measures.sent(group)
        # Sent one right after the other: the worker counts on it that a group comes whole.
        runs = [self._run(process, job, len(group) - n) for n, job in enumerate(group, 1)]
        retry = await asyncio.gather(*runs)
        return [job for jobs in retry for job in jobs]

    async def _prepare(self, process: WorkerProcess, job: Job) -> bool:
        """Get a job ready to be sent; False when there is nothing to send."""
        if job.work is None:
            job.finish(None)
        if job.future.done():
            return False
        if job.reply_path is None:
            return True
        try:
            job.reply_arena = await job.reply_path.prepare(process)
        except WorkerDiedError:
            return True  # sending tells the same, and gives the job its second try
        except DaemonError as error:
            job.fail(error)
        return not job.future.done()

    async def _run(self, process: WorkerProcess, job: Job, more: int) -> list[Job]:
        try:
            request = RunJob(
                id=process.next_id(),
                model_type=job.model_type,
                models={role: spec.key for role, spec in job.specs.items()},
                work=cast("AnyWork", job.work),
                reply_arena=job.reply_arena if job.reply_in_arena else None,
                inline_bytes=job.inline_bytes,
                more=more,
                segments=job.segments,
            )
            job.running = (process, request.id)
            with tracing(job.trace):
                reply = await process.request(request, job.payloads, job.on_progress)
            self.measures.done(job, reply.message)
            if job.future.done():  # whoever asked has given up
                await give_back(process, reply)
            else:
                job.ran_on = process
                job.finish(reply)
        except WorkerDiedError as error:
            return self._after_death([job], error)
        except DaemonError as error:
            job.fail(error)
        finally:
            job.running = None
        return []

    def _after_death(
        self, jobs: Sequence[Job], error: WorkerDiedError, *, at_work: bool = True
    ) -> list[Job]:
        """Give jobs one more try; those that had it fail."""
        retry = []
        for job in jobs:
            job.attempts += 1
            job.kills += at_work
            if job.future.done():
                continue
            if job.attempts < MAX_ATTEMPTS:
                retry.append(job)
                if job.on_notice:
                    job.on_notice(
                        "The worker process died; the request runs once more on a fresh one."
                    )
            else:
                job.fail(error)
        return retry

    async def _watch_over(self, process: WorkerProcess) -> None:
        """Ping the process and replace it when it gives no sign of life."""
        while not process.dead.done():
            try:
                await asyncio.wait_for(process.ping(), self._heartbeat_s)
            except asyncio.TimeoutError:
                process.kill(f"it gave no sign of life for {self._heartbeat_s:g} s")
            except WorkerDiedError:
                break
            await asyncio.wait([process.dead], timeout=self._heartbeat_s / 3)
        self._bury(process)

    def _bury(self, process: WorkerProcess) -> None:
        """Note a death once: what was in its memory is gone."""
        if self.process is not process:
            return
        self.process = None
        self.residency = Residency()
        self.crashes.record(time.monotonic())
        self._last_death = process
        log.warning("%s (pid %d) has ended: %s", self.name, process.pid, process.dead.result())


async def give_back(process: WorkerProcess, reply: Reply) -> None:
    """Free the shared memory of a result that nobody will read."""
    slots = tuple(
        (s.slot.arena, s.slot.offset, s.slot.generation) for s in reply.message.segments if s.slot
    )
    if slots and not process.dead.done():
        await process.post(FreeSlots(slots=slots))


async def drop_result(job: Job) -> None:
    """Free a job's result when its reply will not be sent."""
    future = job.future
    unread = future.done() and not future.cancelled() and future.exception() is None
    reply = future.result() if unread else None
    if reply is not None and job.ran_on is not None:
        await give_back(job.ran_on, reply)


async def cancel(job: Job) -> None:
    """Stop a running job at its next safe point, and tell whoever waits at once."""
    if job.running is not None:
        process, request_id = job.running
        if not process.dead.done():
            await process.post(CancelJob(id=request_id))
    job.fail(CanceledError("The request was cancelled."))
