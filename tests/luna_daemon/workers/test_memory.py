"""A device's books against what its processes have: they say the same, whatever fails on the way."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest
from luna_collection.luna_daemon.errors import (
    BadRequestError,
    InternalError,
    NotFoundError,
    OutOfMemoryError,
    RejectedError,
    WorkerDiedError,
)
from luna_collection.luna_daemon.protocol import worker_messages as wm
from luna_collection.luna_daemon.protocol.segments import Segment
from luna_collection.luna_daemon.protocol.work import AnyWork, DecodeLatent, EncodeText
from luna_collection.luna_daemon.scheduler.batching import QueueKey, Ticket
from luna_collection.luna_daemon.scheduler.residency import (
    DEVICE,
    DISK,
    RAM,
    Budget,
    Residency,
)
from luna_collection.luna_daemon.workers.jobs import Job
from luna_collection.luna_daemon.workers.memory import DeviceMemory, MemorySettings
from luna_collection.luna_daemon.workers.process import Reply, WorkerProcess

if sys.platform == "linux":
    import fcntl

needs_memfd = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memfd")
MB = 2**20
_numbers = itertools.count(1)
UNITS = wm.ActivationUnits(text=10 * MB, decoded_pixel=MB, encoded_pixel=MB, cell_side_px=1)


def spec(key: str, megabytes: int = 100) -> wm.ModelSpec:
    return wm.ModelSpec(
        key=key,
        role="clip_l",
        path=f"/models/{key}",
        precision="fp32",
        nbytes=megabytes * MB,
        activation=UNITS,
    )


class FakeProcess:
    """Keeps models as a worker does, and fails where a test says so."""

    def __init__(self) -> None:
        self.dead: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.models: dict[str, str] = {}  # key → place
        self.failures: dict[type, Exception] = {}
        self.done: list[str] = []
        self.images: list[int] = []  # inodes of what came with loads
        self._ids = itertools.count(1)

    def next_id(self) -> int:
        return next(self._ids)

    async def request(self, message: Any, fds: Sequence[int] = ()) -> Reply:
        await asyncio.sleep(0)  # whoever else wants to move something has a chance to
        failure = self.failures.get(type(message))
        if failure is not None:
            raise failure
        if isinstance(message, wm.LoadModel):
            assert message.image is bool(fds)
            for fd in fds:
                self.images.append(os.fstat(fd).st_ino)
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
            self.models[message.spec.key] = DEVICE
            self.done.append(f"load {message.spec.key}")
            return Reply(wm.Loaded(id=1, nbytes=message.spec.nbytes, seconds=0.1), ())
        if isinstance(message, wm.MoveModel):
            self.models[message.key] = message.place
            self.done.append(f"{message.key} to {message.place}")
            return Reply(wm.Moved(id=1, seconds=0.1), ())
        self.models.pop(message.key)
        self.done.append(f"drop {message.key}")
        return Reply(wm.Unloaded(id=1), ())


class FakeHolder:
    """A worker as the books know it."""

    def __init__(self, number: int) -> None:
        self.name = f"cuda:0/{number}"
        self.fake = FakeProcess()
        self.process: WorkerProcess | None = cast(WorkerProcess, self.fake)
        self.residency = Residency()
        self.at_work: frozenset[str] = frozenset()
        self.running_bytes = 0

    def as_booked(self) -> dict[str, str]:
        return {key: self.residency.place_of(key) for key in self.residency}


class Bench:
    """A device with so many workers."""

    def __init__(
        self,
        budget: int,
        ram: int = 0,
        workers: int = 1,
        *,
        strict: bool = True,
        device: str,
        shares_weights: bool = False,
    ) -> None:
        self.leased: set[str] = set()
        self.unchanged = True
        settings = MemorySettings(device, Budget(budget * MB, ram * MB), strict, shares_weights)
        self.memory = DeviceMemory(
            settings, self.leased.__contains__, is_unchanged=self._is_unchanged
        )
        self.holders = [FakeHolder(number) for number in range(workers)]
        self.memory.holders.extend(self.holders)

    async def bring(self, key: str, megabytes: int = 100, worker: int = 0) -> bool:
        holder = self.holders[worker]
        assert holder.process is not None
        holder.at_work = frozenset({key})
        try:
            return await self.memory.bring(holder, holder.process, spec(key, megabytes))
        finally:
            holder.at_work = frozenset()

    async def admit(self, *works: AnyWork, key: str = "a", shape: tuple[int, ...] = ()) -> bool:
        self.holders[0].at_work = frozenset({key})
        return await self.memory.admit(self.holders[0], [job(key, work, shape) for work in works])

    def check(self) -> None:
        for holder in self.holders:
            assert holder.as_booked() == holder.fake.models

    async def _is_unchanged(self, spec: wm.ModelSpec) -> bool:
        return self.unchanged


def job(key: str, work: AnyWork, shape: tuple[int, ...] = ()) -> Job:
    now = time.monotonic()
    ticket = Ticket(next(_numbers), "w", QueueKey("x"), now, now + 60)
    segment = Segment(dtype="float32", shape=shape, order=tuple(range(len(shape))), nbytes=4)
    future = asyncio.get_running_loop().create_future()
    return Job(ticket, "SD1.5", {"clip_l": spec(key)}, work, future, segments=(segment,))


def with_bench(
    use: Callable[[Bench], Awaitable[None]],
    budget: int,
    ram: int = 0,
    workers: int = 1,
    *,
    strict: bool = True,
    device: str = "cuda:0",
    shares_weights: bool = False,
) -> None:
    async def run() -> None:
        bench = Bench(
            budget, ram, workers, strict=strict, device=device, shares_weights=shares_weights
        )
        await use(bench)
        bench.check()
        bench.memory.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_model_that_must_go_sleeps_and_comes_back_without_a_load() -> None:
    async def use(bench: Bench) -> None:
        assert await bench.bring("a") is True
        assert await bench.bring("b") is True
        assert await bench.bring("a") is False
        assert bench.holders[0].fake.done == [
            "load a", "a to ram", "load b", "b to ram", "a to device"
        ]  # fmt: skip
        assert (bench.memory.weight_bytes, bench.memory.asleep_bytes) == (100 * MB, 100 * MB)

    with_bench(use, budget=150, ram=200)


def test_without_room_in_ram_a_model_that_must_go_is_dropped() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("a")
        await bench.bring("b")
        assert bench.holders[0].fake.done == ["load a", "drop a", "load b"]

    with_bench(use, budget=150, ram=0)


def test_a_model_that_cannot_sleep_is_dropped_instead() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("a")
        bench.holders[0].fake.failures[wm.MoveModel] = OutOfMemoryError("no RAM")
        await bench.bring("b")
        assert bench.holders[0].as_booked() == {"b": DEVICE}

    with_bench(use, budget=150, ram=200)


def test_a_failed_load_leaves_nothing_and_what_went_for_it_is_noted() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("a")
        bench.holders[0].fake.failures[wm.LoadModel] = BadRequestError("damaged")
        with pytest.raises(BadRequestError):
            await bench.bring("b")
        assert bench.holders[0].as_booked() == {"a": RAM}
        del bench.holders[0].fake.failures[wm.LoadModel]
        assert await bench.bring("a") is False

    with_bench(use, budget=150, ram=200)


def test_a_failed_wake_leaves_the_model_asleep() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("a")
        await bench.bring("b")
        holder = bench.holders[0]
        holder.residency.remove("b")  # dropped, so that only the wake itself moves something
        holder.fake.models.pop("b")
        holder.fake.failures[wm.MoveModel] = OutOfMemoryError("no VRAM")
        with pytest.raises(OutOfMemoryError):
            await bench.bring("a")
        assert holder.as_booked() == {"a": RAM}

    with_bench(use, budget=150, ram=200)


def test_a_model_whose_files_have_changed_does_not_stay() -> None:
    async def use(bench: Bench) -> None:
        bench.unchanged = False
        with pytest.raises(NotFoundError, match="have changed"):
            await bench.bring("a")
        assert bench.holders[0].fake.done == ["load a", "drop a"]

    with_bench(use, budget=150)


def test_an_answer_of_another_kind_is_no_load() -> None:
    async def use(bench: Bench) -> None:
        process = bench.holders[0].fake
        answer = process.request

        async def wrong(message: Any, **_: Any) -> Reply:
            reply = await answer(message)
            return Reply(wm.Unloaded(id=1), ()) if isinstance(message, wm.LoadModel) else reply

        process.request = wrong  # type: ignore[method-assign]
        with pytest.raises(InternalError):
            await bench.bring("a")

    with_bench(use, budget=150)


def test_leased_models_and_those_at_work_stay_in_every_worker() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("leased", 50, worker=0)
        await bench.bring("working", 50, worker=1)
        await bench.bring("free", 50, worker=1)
        bench.leased.add("leased")
        bench.holders[1].at_work = frozenset({"working"})
        await bench.bring("new", 50, worker=0)
        assert bench.holders[1].as_booked() == {"working": DEVICE}
        with pytest.raises(RejectedError, match="held by other workflows"):
            await bench.bring("more", 101)

    with_bench(use, budget=150, workers=2)


def test_two_workers_do_not_both_count_on_the_same_room() -> None:
    async def use(bench: Bench) -> None:
        bench.leased.update({"a", "b"})
        results = await asyncio.gather(
            bench.bring("a", worker=0), bench.bring("b", worker=1), return_exceptions=True
        )
        assert results[0] is True
        assert isinstance(results[1], RejectedError)

    with_bench(use, budget=150, workers=2)


def test_a_process_that_ends_while_a_model_leaves_it_does_not_end_the_load() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("a", worker=1)
        bench.holders[1].fake.failures[wm.UnloadModel] = WorkerDiedError("it ended")
        await bench.bring("b", worker=0)
        assert bench.holders[0].as_booked() == {"b": DEVICE}
        bench.holders[1].fake.failures.clear()

    with_bench(use, budget=150, workers=2)


def test_a_run_pushes_out_what_nobody_holds() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("old")
        await bench.bring("a")
        assert await bench.admit(EncodeText(texts=("x",))) is True
        assert bench.holders[0].as_booked() == {"a": DEVICE}
        assert bench.holders[0].running_bytes == 10 * MB

    with_bench(use, budget=205)


def test_a_group_that_does_not_fit_runs_one_by_one() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("a")
        works = [EncodeText(texts=(text,)) for text in "xyz"]
        assert await bench.admit(*works[:2]) is True
        assert await bench.admit(*works) is False
        assert bench.holders[0].running_bytes == 10 * MB

    with_bench(use, budget=125)


def test_a_text_that_does_not_fit_alone_is_refused_with_the_numbers() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("a")
        with pytest.raises(
            RejectedError, match=r"about 20 MB .* budget of 105 MB 100 MB"
        ) as raised:
            await bench.admit(EncodeText(texts=("x", "y")))
        assert "device_budgets_gb" in raised.value.hint

    with_bench(use, budget=105)


def test_by_a_budget_that_nobody_has_set_no_run_is_refused() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("a")
        assert await bench.admit(EncodeText(texts=("x", "y"))) is False

    with_bench(use, budget=105, strict=False, device="cpu")


def test_a_picture_is_never_refused_for_it_can_go_in_tiles() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("a")
        assert await bench.admit(DecodeLatent(latent=0), shape=(1, 4, 100, 100)) is True

    with_bench(use, budget=105)


def test_pictures_of_a_group_follow_each_other_and_take_room_once() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("a")
        pictures = [DecodeLatent(latent=0)] * 4
        assert await bench.admit(*pictures, shape=(1, 4, 5, 2)) is True
        assert bench.holders[0].running_bytes == 10 * MB

    with_bench(use, budget=200)


def test_what_other_workers_are_running_takes_room_too() -> None:
    async def use(bench: Bench) -> None:
        await bench.bring("old", worker=1)
        await bench.bring("a")
        bench.holders[1].running_bytes = 60 * MB
        await bench.admit(EncodeText(texts=("x",)))
        assert bench.holders[1].as_booked() == {}

    with_bench(use, budget=260, workers=2)


def test_reserved_is_weights_and_the_largest_request() -> None:
    async def use(bench: Bench) -> None:
        assert bench.memory.reserved_bytes == 0
        await bench.bring("a")
        first = bench.memory.reserved_bytes
        assert first > 100 * MB, "a first picture is counted before there was one"
        await bench.admit(DecodeLatent(latent=0), shape=(1, 4, 1000, 1000))
        assert bench.memory.reserved_bytes == (100 + 1000 * 1000) * MB
        await bench.admit(DecodeLatent(latent=0), shape=(1, 4, 10, 10))
        assert bench.memory.reserved_bytes == (100 + 1000 * 1000) * MB
        await bench.bring("b", 100)
        assert bench.holders[0].residency.place_of("a") == DISK
        assert bench.memory.reserved_bytes == first, "the large request went with its model"

    with_bench(use, budget=150)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@needs_memfd
def test_shared_weights_count_once_and_leave_all_workers_together() -> None:
    async def use(bench: Bench) -> None:
        one, other = bench.holders
        await bench.bring("a", worker=0)
        await bench.bring("a", worker=1)
        assert one.fake.images == other.fake.images
        assert bench.memory.weight_bytes == 100 * MB
        await bench.bring("b", worker=0)
        assert (one.as_booked(), other.as_booked()) == ({"b": DEVICE}, {})

    with_bench(use, budget=150, workers=2, device="cpu", shares_weights=True)


@needs_memfd
def test_an_image_is_given_up_with_its_last_user_and_kept_for_a_workflow() -> None:
    async def use(bench: Bench) -> None:
        before = descriptors()
        bench.leased.add("a")
        await bench.bring("a")
        image = bench.holders[0].fake.images[0]
        bench.holders[0].residency = Residency()  # its process has died
        bench.holders[0].fake.models.clear()
        bench.memory.tidy()
        await bench.bring("a")
        assert bench.holders[0].fake.images == [image, image]
        assert descriptors() == before + 1
        bench.leased.clear()
        bench.memory.tidy()
        assert descriptors() == before + 1, "still in memory"
        await bench.bring("b")
        await bench.bring("c")
        assert descriptors() == before + 1, "the image of c alone"

    with_bench(use, budget=150, device="cpu", shares_weights=True)


@needs_memfd
def test_the_image_of_a_model_whose_files_have_changed_is_given_up() -> None:
    async def use(bench: Bench) -> None:
        before = descriptors()
        bench.leased.add("a")
        bench.unchanged = False
        with pytest.raises(NotFoundError):
            await bench.bring("a")
        assert descriptors() == before

    with_bench(use, budget=150, device="cpu", shares_weights=True)
