"""What a device's queue and workers leave in the metrics, with a worker process that is none."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from luna_collection.luna_daemon.errors import DaemonError, RejectedError, WorkerDiedError
from luna_collection.luna_daemon.monitoring.metrics import Metrics
from luna_collection.luna_daemon.monitoring.request_trace import Trace, current_trace, tracing
from luna_collection.luna_daemon.protocol import worker_messages as wm
from luna_collection.luna_daemon.protocol.work import DecodeLatent, Images
from luna_collection.luna_daemon.scheduler.batching import QueueKey, Ticket
from luna_collection.luna_daemon.scheduler.placement import ScalingLimits
from luna_collection.luna_daemon.scheduler.residency import Budget
from luna_collection.luna_daemon.workers.jobs import Job
from luna_collection.luna_daemon.workers.memory import MemorySettings
from luna_collection.luna_daemon.workers.pool import DeviceSettings, DeviceWorkers
from luna_collection.luna_daemon.workers.process import Reply, WorkerProcess

MODEL_BYTES = 100
_numbers = itertools.count(1)


class FakeProcess:
    """A worker process that answers at once; `runs` may hold it up, `traces` says for whom it ran."""

    def __init__(self, runs: asyncio.Event) -> None:
        self.pid = 1
        self.dead: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.process = self
        self.traces: list[Trace | None] = []
        self._runs = runs
        self._ids = itertools.count(1)

    def next_id(self) -> int:
        return next(self._ids)

    async def request(self, message: Any, *_: Any, **__: Any) -> Reply:
        if isinstance(message, wm.LoadModel):
            return Reply(wm.Loaded(id=message.id, nbytes=MODEL_BYTES, seconds=2.0), ())
        if isinstance(message, wm.UnloadModel):
            return Reply(wm.Unloaded(id=message.id), ())
        self.traces.append(current_trace())
        await asyncio.wait(
            [self.dead, asyncio.ensure_future(self._runs.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self.dead.done():
            raise WorkerDiedError("It ended.")
        done = wm.JobDone(
            id=message.id,
            result=Images(images=0),
            compute_ms=40.0,
            unpack_ms=3.0,
            pack_ms=6.0,
            arena_full=True,
        )
        return Reply(done, ())

    @property
    def end(self) -> str:
        return self.dead.result()

    async def ping(self) -> None:
        await asyncio.sleep(0)

    async def stop(self) -> None:
        self.poll()

    def poll(self) -> None:
        if not self.dead.done():
            self.dead.set_result("it was stopped")


class Bench:
    """One device with its metrics."""

    def __init__(self, budget_bytes: int = 10 * MODEL_BYTES, max_queue: int = 8) -> None:
        self.metrics = Metrics()
        self.runs = asyncio.Event()
        self.processes: list[FakeProcess] = []
        self.fails = 0  # starts that fail first
        memory = MemorySettings("cpu", Budget(budget_bytes))
        settings = DeviceSettings("cpu", memory, ScalingLimits(0, 1, 9, 9), max_queue, 8, 30)
        self.device = DeviceWorkers(settings, self._start, lambda _: False, self.metrics)

    async def _start(self, *_: str) -> WorkerProcess:
        if self.fails:
            self.fails -= 1
            raise WorkerDiedError("The worker process did not start.")
        self.processes.append(FakeProcess(self.runs))
        return cast(WorkerProcess, self.processes[-1])

    def begin(self, model: str = "m", trace: Trace | None = None) -> asyncio.Task[Any]:
        now = time.monotonic()
        with tracing(trace):
            job = Job(
                Ticket(next(_numbers), "w", QueueKey("decode", (model,)), now, now + 60),
                "SDXL",
                {"vae": wm.ModelSpec(key=model, role="vae", path="p", precision="", nbytes=90)},
                DecodeLatent(latent=0),
                asyncio.get_running_loop().create_future(),
            )
            return asyncio.create_task(self.device.run(job))

    def duration(self, name: str) -> dict[str, float]:
        return self.metrics.durations()[f"{name}{{operation=decode_latent}}"]


def with_bench(use: Callable[[Bench], Awaitable[None]], **settings: int) -> None:
    async def run() -> None:
        bench = Bench(**settings)
        await use(bench)
        await bench.device.stop(1.0)

    asyncio.run(asyncio.wait_for(run(), 30))


async def soon() -> None:
    await asyncio.sleep(0.05)


def test_requests_that_go_together_are_several_of_one_group() -> None:
    async def use(bench: Bench) -> None:
        first = bench.begin()
        await soon()  # it runs; the others wait behind it
        others = [bench.begin() for _ in range(3)]
        await soon()
        bench.runs.set()
        await asyncio.gather(first, *others)
        counters = bench.metrics.counters()
        assert counters["inference_count{operation=decode_latent}"] == 4
        assert counters["exec_count{operation=decode_latent}"] == 2
        wait = bench.metrics.duration("queue", device="cpu")
        assert wait is not None
        assert wait["count"] == 4
        assert wait["p99_ms"] >= 50
        assert bench.duration("compute") == {"count": 4, "p50_ms": 40, "p99_ms": 40}
        assert bench.duration("transport_in")["p50_ms"] == 3
        assert bench.duration("transport_out")["p50_ms"] == 6
        assert counters["arena_full"] == 4

    with_bench(use)


def test_loads_and_what_goes_for_them_are_counted() -> None:
    async def use(bench: Bench) -> None:
        bench.runs.set()
        await bench.begin("a")
        await bench.begin("b")
        await bench.begin("b")
        counters = bench.metrics.counters()
        assert counters["model_loads{device=cpu,role=vae}"] == 2
        assert counters["model_evictions{device=cpu,role=vae}"] == 1
        load = bench.metrics.duration("model_load", role="vae")
        assert load == {"count": 2, "p50_ms": 2000, "p99_ms": 2000}

    with_bench(use, budget_bytes=MODEL_BYTES + 20)


def test_a_full_queue_is_counted() -> None:
    async def use(bench: Bench) -> None:
        first = bench.begin()
        await soon()
        second, third = bench.begin(), bench.begin()
        with pytest.raises(RejectedError):
            await third
        assert bench.metrics.counters()["queue_rejected{device=cpu}"] == 1
        bench.runs.set()
        await asyncio.gather(first, second)

    with_bench(use, max_queue=1)


def test_a_worker_that_dies_is_restarted_and_says_why() -> None:
    async def use(bench: Bench) -> None:
        task = bench.begin()
        await soon()
        bench.processes[0].dead.set_result("it ended with code -9")
        await soon()
        bench.runs.set()
        await task
        (runner,) = bench.device.runners
        assert runner.last_death == "it ended with code -9"
        counters = bench.metrics.counters()
        assert counters["worker_restarts{device=cpu}"] == 1
        assert counters["inference_count{operation=decode_latent}"] == 2
        wait = bench.metrics.duration("queue", device="cpu")
        assert wait is not None
        assert wait["count"] == 1, "the first try is no time in the queue"

    with_bench(use)


def test_a_start_that_failed_is_tried_once_more_for_the_same_request() -> None:
    async def use(bench: Bench) -> None:
        bench.fails = 1
        bench.runs.set()
        await bench.begin()
        assert bench.metrics.counters()["worker_restarts{device=cpu}"] == 1

    with_bench(use)


def test_a_worker_that_does_not_start_says_so() -> None:
    async def use(bench: Bench) -> None:
        bench.fails = 2
        with pytest.raises(DaemonError, match="did not start"):
            await bench.begin()
        (runner,) = bench.device.runners
        assert runner.last_death == "The worker process did not start."
        bench.runs.set()
        await bench.begin()
        assert bench.metrics.counters()["worker_restarts{device=cpu}"] == 1

    with_bench(use)


def test_a_trace_goes_with_its_job_and_the_worker_belongs_to_none() -> None:
    async def use(bench: Bench) -> None:
        bench.runs.set()
        traces = [Trace(1, n, "decode_latent") for n in range(3)]
        for trace in traces:
            await bench.begin(trace=trace)
        await bench.begin()
        assert bench.processes[0].traces == [*traces, None]
        for trace in traces:
            assert trace.queued_at is not None
            assert trace.sent_at is not None
            assert trace.queue_s(trace.sent_at + 100) == trace.sent_at - trace.queued_at

    with_bench(use)
