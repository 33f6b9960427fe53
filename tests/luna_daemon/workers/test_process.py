"""A real worker process, over both kinds of channel."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import torch
from luna_collection.luna_daemon.demo.tiny_models import make_sdxl_like
from luna_collection.luna_daemon.errors import NotFoundError, WorkerDiedError
from luna_collection.luna_daemon.protocol.work import DecodeLatent
from luna_collection.luna_daemon.protocol.worker_messages import (
    CacheState,
    GetCacheState,
    LoadModel,
    ModelSpec,
    Moved,
    MoveModel,
    RunJob,
    Setup,
)
from luna_collection.luna_daemon.transport.tensors import pack
from luna_collection.luna_daemon.workers.process import Reply, WorkerProcess

CHANNELS = [
    pytest.param(
        True,
        id="inherited",
        marks=pytest.mark.skipif(sys.platform == "win32", reason="not on Windows"),
    ),
    pytest.param(False, id="loopback"),
]


def with_worker(
    inherit: bool, use: Callable[[WorkerProcess], Awaitable[None]], engine: str = "hf"
) -> None:
    async def run() -> None:
        setup = Setup(
            name="test",
            engine=engine,
            device="cpu",
            conditioning_cache_bytes=1000,
            log_level="info",
        )
        worker = await WorkerProcess.start(setup, "cpu", 1, 120, inherit=inherit)
        try:
            await use(worker)
        finally:
            await worker.stop()
        assert worker.process.poll() is not None, "stop() has ended the process"

    asyncio.run(run())


@pytest.mark.parametrize("inherit", CHANNELS)
def test_a_worker_answers_over_its_channel_and_ends_with_it(inherit: bool) -> None:
    async def use(worker: WorkerProcess) -> None:
        await worker.ping()
        assert worker.versions is not None
        assert worker.versions.torch
        reply = await worker.request(GetCacheState(id=worker.next_id()))
        assert isinstance(reply.message, CacheState)
        spec = ModelSpec(key="k", role="vae", path="/nonexistent/vae", precision="fp32", nbytes=1)
        with pytest.raises(Exception, match="vae"):
            await worker.request(LoadModel(id=worker.next_id(), spec=spec))
        await worker.ping()

    with_worker(inherit, use)


def test_requests_to_a_worker_that_is_killed_end_with_an_error() -> None:
    async def use(worker: WorkerProcess) -> None:
        os.kill(worker.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        await asyncio.wait_for(worker.dead, 30)
        with pytest.raises(WorkerDiedError):
            await worker.ping()

    with_worker(sys.platform != "win32", use)


def test_an_engine_that_does_not_exist_is_a_worker_that_did_not_start() -> None:
    async def never(worker: WorkerProcess) -> None:
        raise AssertionError("it must not start")

    with pytest.raises(WorkerDiedError, match="did not start"):
        with_worker(sys.platform != "win32", never, engine="none")


def test_a_model_that_sleeps_is_not_run_and_one_that_is_not_there_does_not_move(
    tmp_path: Path,
) -> None:
    folder = make_sdxl_like(tmp_path / "sdxl") / "vae"
    spec = ModelSpec(key="k", role="vae", path=str(folder), precision="fp32", nbytes=1)

    async def decode(worker: WorkerProcess) -> Reply:
        latent = pack((torch.zeros(1, 4, 2, 2),), None)
        run = RunJob(
            id=worker.next_id(),
            model_type="SDXL",
            models={"vae": "k"},
            work=DecodeLatent(latent=0),
            segments=latent[0],
        )
        return await worker.request(run, latent[1])

    async def use(worker: WorkerProcess) -> None:
        with pytest.raises(NotFoundError, match="not in this worker's memory"):
            await worker.request(MoveModel(id=worker.next_id(), key="k", place="ram"))
        await worker.request(LoadModel(id=worker.next_id(), spec=spec))
        before = await decode(worker)
        moved = await worker.request(MoveModel(id=worker.next_id(), key="k", place="ram"))
        assert isinstance(moved.message, Moved)
        with pytest.raises(NotFoundError, match="not in this worker's memory"):
            await decode(worker)
        await worker.request(MoveModel(id=worker.next_id(), key="k", place="device"))
        after = await decode(worker)
        assert [bytes(p) for p in after.payloads] == [bytes(p) for p in before.payloads]

    with_worker(sys.platform != "win32", use)
