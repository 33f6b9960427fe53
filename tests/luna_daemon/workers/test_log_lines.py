"""What a worker logs about a request is, in the daemon's log, a line about that request."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from luna_collection.luna_daemon.errors import InternalError
from luna_collection.luna_daemon.monitoring.log_output import add_request
from luna_collection.luna_daemon.monitoring.request_trace import Trace, tracing
from luna_collection.luna_daemon.protocol.work import EncodeText
from luna_collection.luna_daemon.protocol.worker_messages import RunJob, Setup
from luna_collection.luna_daemon.transport.connection import Connection
from luna_collection.luna_daemon.workers import loop
from luna_collection.luna_daemon.workers.process import WorkerProcess

TRACE = Trace(session=3, request=17, operation="encode_text", workflow_id="portraits")


class BrokenEngine:
    """Fails at whatever it is asked for."""

    def joins(self, work: Any) -> bool:
        return False

    def run(self, *_: Any) -> Any:
        raise RuntimeError("a bug of the engine")


class FakePopen:
    """A child process that is a thread of this one."""

    pid = 1

    def poll(self) -> int:
        return 0

    def wait(self, timeout: float | None = None) -> int:
        return 0

    def kill(self) -> None:
        """Nothing to kill."""


@pytest.fixture
def worker_socket() -> Iterator[socket.socket]:
    """The supervisor's end of a channel whose other end is served by a worker's loop."""
    ours, theirs = socket.socketpair()
    connection = Connection(theirs)
    to_supervisor = loop._LogToSupervisor(connection)
    theirs_only = logging.getLogger("luna.worker")
    theirs_only.addHandler(to_supervisor)
    # In a process of its own the lines would not be seen here a second time.
    to_supervisor.addFilter(
        lambda record: threading.current_thread() is not threading.main_thread()
    )
    served = threading.Thread(
        target=loop.WorkerLoop(connection, cast(Any, BrokenEngine())).serve, daemon=True
    )
    served.start()
    yield ours
    ours.close()
    served.join(10)
    theirs_only.removeHandler(to_supervisor)
    theirs.close()


class Seen(logging.Handler):
    """Keeps what the supervisor's own handlers would get."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(lambda record: threading.current_thread() is threading.main_thread())
        self.addFilter(add_request)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_a_workers_line_belongs_to_the_request_that_it_worked_on(
    worker_socket: socket.socket,
) -> None:
    seen = Seen()
    logging.getLogger("luna").addHandler(seen)

    async def run() -> None:
        setup = Setup(
            name="cpu/0", engine="", device="cpu", conditioning_cache_bytes=0, log_level="info"
        )
        worker = WorkerProcess(setup, cast(Any, FakePopen()), worker_socket)
        job = RunJob(
            id=worker.next_id(), model_type="SDXL", models={}, work=EncodeText(texts=("a",))
        )
        with tracing(TRACE), pytest.raises(InternalError, match="RuntimeError"):
            await worker.request(job)
        worker.kill("the test is over")

    try:
        asyncio.run(asyncio.wait_for(run(), 30))
    finally:
        logging.getLogger("luna").removeHandler(seen)
    (line,) = [record for record in seen.records if "by our fault" in record.getMessage()]
    assert (line.workflow, line.session, line.request) == ("portraits", 3, 17)
    assert "a bug of the engine" in line.getMessage()
    assert "[cpu/0]" in line.getMessage()


def test_a_job_leaves_no_mark_on_what_comes_after_it() -> None:
    found: list[int] = []
    worker = loop.WorkerLoop(cast(Any, SimpleNamespace()), cast(Any, BrokenEngine()))
    worker._guard(7, lambda: found.append(loop._current_job.get()))
    found.append(loop._current_job.get())
    assert found == [7, 0]
