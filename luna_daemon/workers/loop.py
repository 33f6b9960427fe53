"""What runs inside a worker process.

The main thread receives messages, copies tensors and answers pings; one executor thread makes every
call of the engine, in the order in which they came. When the supervisor's channel ends, so does the
process.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...utils.log import get_logger
from ..errors import (
    BadRequestError,
    CanceledError,
    ConnectionLostError,
    DaemonError,
    InternalError,
    OutOfMemoryError,
)
from ..protocol import worker_messages as wm
from ..protocol.codec import encode, failure, to_worker
from ..protocol.messages import DropArena, OfferArena, Ping, Pong, Progress
from ..protocol.work import Echo, Echoed
from ..transport.arena import MEMFD, ArenaReader, ArenaWriter, attach_memfd, attach_named
from ..transport.connection import Connection
from .residents import Residents

if TYPE_CHECKING:
    import torch

    from ..engines.engine import Call, Engine, EngineSettings, Outcome

log = get_logger("worker")
PROGRESS_INTERVAL_S = 0.05
# A worker keeps freed memory for its next work, which spares it page faults; after so long without any
# the memory is of more use to others.
REST_AFTER_S = 5.0
_current_job: ContextVar[int] = ContextVar("luna_job", default=0)  # 0: none


class WorkerLoop:
    """Serves one supervisor until its channel ends."""

    def __init__(self, connection: Connection, engine: Engine) -> None:
        self.connection = connection
        self.engine = engine
        self._residents = Residents(engine)
        self._readers: dict[int, ArenaReader] = {}
        self._writers: dict[int, ArenaWriter] = {}
        self._jobs: queue.SimpleQueue[Callable[[], None] | QueuedJob] = queue.SimpleQueue()
        self._controls: dict[int, JobControl] = {}
        self._handlers: dict[type, Callable[[Any, Sequence[memoryview]], None]] = {
            wm.LoadModel: lambda m, _: self._accept_load(m),
            wm.UnloadModel: lambda m, _: self._later(m.id, lambda: self._unload(m)),
            wm.GetCacheState: lambda m, _: self._cache_state(m),
            wm.MoveModel: lambda m, _: self._later(m.id, lambda: self._move(m)),
            wm.RunJob: self._accept_job,
            wm.CancelJob: lambda m, _: self._cancel(m.id),
            wm.FreeSlots: lambda m, _: self._free(m),
            DropArena: lambda m, _: self._jobs.put(lambda: self._drop_arena(m.arena)),
            OfferArena: lambda m, _: self._map_arena(m),
            Ping: lambda m, _: self._send(Pong(id=m.id)),
        }

    def serve(self) -> None:
        """Receive until the channel ends."""
        threading.Thread(target=self._execute, name="executor", daemon=True).start()
        while True:
            try:
                frame = self.connection.receive()
            except ConnectionLostError:
                return
            message = to_worker.decode(frame)
            self._handlers[type(message)](message, frame.payloads)

    def _execute(self) -> None:
        rested = True
        while True:
            job = self._next_job(None if rested else REST_AFTER_S)
            rested = job is None
            try:
                if job is None:
                    self.engine.rest()
                elif isinstance(job, QueuedJob):
                    self._run_group(self._rest_of_group(job))
                else:
                    job()
            except Exception:  # boundary: the executor must outlive whatever it runs
                log.exception("a job failed by our fault")
            del job  # what it holds is free now, and not only when the next one comes

    def _next_job(self, patience_s: float | None) -> Callable[[], None] | QueuedJob | None:
        try:
            return self._jobs.get(timeout=patience_s)
        except queue.Empty:
            return None

    def _rest_of_group(self, first: QueuedJob) -> list[QueuedJob]:
        """Take the jobs that belong to the first; they follow it at once."""
        group = [first]
        while group[-1].message.more:
            job = self._jobs.get()
            if isinstance(job, QueuedJob):
                group.append(job)
            else:
                job()
        return group

    def _run_group(self, group: Sequence[QueuedJob]) -> None:
        wanted = [job for job in group if job.tensors is not None]
        if len(wanted) > 1 and self.engine.joins(wanted[0].message.work):
            self._run_joined(wanted)
            return
        for job in wanted:
            self._guard(job.message.id, partial(self._run, job))

    def _later(self, request_id: int, job: Callable[[], None]) -> None:
        """Let the executor do the job, and answer with a failure whatever goes wrong in it."""
        self._jobs.put(lambda: self._guard(request_id, job))

    def _guard(self, request_id: int, job: Callable[[], None]) -> None:
        token = _current_job.set(request_id)
        try:
            job()
        except DaemonError as error:
            self._send(failure(error, request_id))
        except MemoryError:
            self._send(failure(OutOfMemoryError("The machine has no memory left."), request_id))
        except Exception as error:  # boundary: one bad job must not take the worker down
            log.exception("a job failed by our fault")
            text = (
                f"The worker failed with {type(error).__name__}; the daemon's log has the details."
            )
            self._send(failure(InternalError(text), request_id))
        finally:
            _current_job.reset(token)

    def _accept_load(self, message: wm.LoadModel) -> None:
        try:
            image = self.connection.take_fd() if message.image else None
        except ConnectionLostError as error:
            self._send(failure(error, message.id))
            return

        def load() -> None:
            try:
                self._load(message, image)
            finally:
                if image is not None:
                    os.close(image)

        self._later(message.id, load)

    def _load(self, message: wm.LoadModel, image: int | None) -> None:
        started = time.monotonic()
        nbytes = self._residents.load(message.spec, image)
        self._send(wm.Loaded(id=message.id, nbytes=nbytes, seconds=time.monotonic() - started))

    def _unload(self, message: wm.UnloadModel) -> None:
        self._residents.unload(message.key)
        self._send(wm.Unloaded(id=message.id))

    def _move(self, message: wm.MoveModel) -> None:
        started = time.monotonic()
        self._residents.move(message.key, message.place)
        self._send(wm.Moved(id=message.id, seconds=time.monotonic() - started))

    def _run(self, job: QueuedJob) -> None:
        try:
            job.control.check()
            started = time.perf_counter()
            outcome = self._outcome(job)
            self._reply(job, outcome, (time.perf_counter() - started) * 1000)
        finally:
            self._controls.pop(job.message.id, None)

    def _run_joined(self, group: Sequence[QueuedJob]) -> None:
        """Let the engine do several jobs together; each gets its share of the time."""
        started = time.perf_counter()
        outcomes: Sequence[Outcome | Exception]
        try:
            outcomes = self.engine.run_group([self._call(job) for job in group])
        except Exception as error:  # boundary: raised again below, for each job of the group
            log.debug("a group of %d jobs failed", len(group), exc_info=True)
            outcomes = [error] * len(group)
        elapsed_ms = (time.perf_counter() - started) * 1000 / len(group)
        for job, outcome in zip(group, outcomes, strict=True):
            self._controls.pop(job.message.id, None)
            self._guard(job.message.id, partial(self._settle, job, outcome, elapsed_ms))

    def _settle(self, job: QueuedJob, outcome: Outcome | Exception, elapsed_ms: float) -> None:
        if isinstance(outcome, Exception):
            raise outcome
        self._reply(job, outcome, elapsed_ms)

    def _outcome(self, job: QueuedJob) -> Outcome:
        from ..engines.engine import Outcome

        call = self._call(job)
        if isinstance(call.work, Echo):
            return Outcome(Echoed(tensor=0), (call.tensors[call.work.tensor],))
        return self.engine.run(call.work, call.model_type, call.models, call.tensors, call.control)

    def _call(self, job: QueuedJob) -> Call:
        from ..engines.engine import Call

        message = job.message
        models = self._residents.find(message.models)
        return Call(message.work, message.model_type, models, job.tensors or (), job.control)

    def _reply(self, job: QueuedJob, outcome: Outcome, elapsed_ms: float) -> None:
        from ..transport.tensors import ARENA_MIN_BYTES, pack

        message = job.message
        writer = self._writers.get(message.reply_arena) if message.reply_arena is not None else None
        if sum(tensor.nbytes for tensor in outcome.tensors) <= message.inline_bytes:
            writer = None
        started = time.perf_counter()
        segments, payloads = pack(outcome.tensors, writer)
        pack_ms = (time.perf_counter() - started) * 1000
        full = writer is not None and any(
            segment.slot is None and segment.nbytes >= ARENA_MIN_BYTES for segment in segments
        )
        done = wm.JobDone(
            id=message.id,
            result=outcome.result,
            notes=tuple(job.control.notes),
            cache_hit=outcome.cache_hit,
            compute_ms=round(elapsed_ms, 3),
            arena_full=full,
            unpack_ms=round(job.unpack_ms, 3),
            pack_ms=round(pack_ms, 3),
            segments=segments,
        )
        self._send(done, payloads)

    def _drop_arena(self, arena: int) -> None:
        for end in (self._readers.pop(arena, None), self._writers.pop(arena, None)):
            if end is not None:
                end.region.close()

    def _accept_job(self, message: wm.RunJob, payloads: Sequence[memoryview]) -> None:
        from ..transport.tensors import unpack

        control = JobControl(
            lambda done, total: self._send(Progress(id=message.id, done=done, total=total))
        )
        started = time.perf_counter()
        unpacked: list[list[torch.Tensor]] = []
        self._guard(
            message.id,
            lambda: unpacked.append(unpack(message.segments, payloads, self._readers)),
        )
        tensors = unpacked[0] if unpacked else None
        if tensors is not None:
            self._controls[message.id] = control
        unpack_ms = (time.perf_counter() - started) * 1000
        # In any case, since its group counts on it.
        self._jobs.put(QueuedJob(message, tensors, control, unpack_ms))

    def _cancel(self, job: int) -> None:
        control = self._controls.get(job)
        if control is not None:
            control.cancelled = True

    def _free(self, message: wm.FreeSlots) -> None:
        for arena, offset, generation in message.slots:
            writer = self._writers.get(arena)
            if writer is not None:
                writer.free(offset, generation)

    def _map_arena(self, message: OfferArena) -> None:
        try:
            if message.backing == MEMFD:
                region = attach_memfd(self.connection.take_fd(), message.nbytes)
            else:
                region = attach_named(message.name, message.nbytes)
        except DaemonError as error:
            # Whoever uses the arena is told that it is not there, and the canary demotes the tier.
            log.warning("shared memory cannot be mapped: %s", error)
            return
        if message.writer == "client":
            self._readers[message.arena] = ArenaReader(message.arena, region)
        else:
            self._writers[message.arena] = ArenaWriter(message.arena, region)

    def _cache_state(self, message: wm.GetCacheState) -> None:
        counts = self.engine.cache_counts()
        self._send(
            wm.CacheState(
                id=message.id,
                entries=counts.entries,
                nbytes=counts.nbytes,
                hits=counts.hits,
                misses=counts.misses,
                patch_sets=counts.patch_sets,
                patch_bytes=counts.patch_bytes,
            )
        )

    def _send(self, message: Any, payloads: Sequence[memoryview] = ()) -> None:
        try:
            self.connection.send(encode(message), payloads)
        except ConnectionLostError:
            log.debug("the supervisor is gone; nobody wants the reply")


@dataclass(slots=True)
class JobControl:
    """How a running job hears of its cancellation and tells of its progress."""

    send_progress: Callable[[int, int], None]
    cancelled: bool = False
    notes: list[str] = field(default_factory=list)
    _last: float = 0.0

    def check(self) -> None:
        """Raise CanceledError when the caller has given up."""
        if self.cancelled:
            raise CanceledError("The request was cancelled.")

    def progress(self, done: int, total: int) -> None:
        """Tell the caller, at most every 50 ms and at the end."""
        now = time.monotonic()
        if done >= total or now - self._last >= PROGRESS_INTERVAL_S:
            self._last = now
            self.send_progress(done, total)

    def note(self, text: str) -> None:
        """Let the reply carry a sentence for the person at the screen."""
        self.notes.append(text)


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job that waits for the executor. Without tensors it has been answered already."""

    message: wm.RunJob
    tensors: Sequence[torch.Tensor] | None
    control: JobControl
    unpack_ms: float = 0.0


class _LogToSupervisor(logging.Handler):
    """Sends log records over the channel, so that the daemon has one log."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        line = wm.LogLine(
            level=record.levelno,
            logger=record.name.removeprefix("luna."),
            text=self.format(record),
            job=_current_job.get(),
        )
        try:
            self._connection.send(encode(line))
        except ConnectionLostError:
            self.handleError(record)


def connect_to_supervisor(argv: Sequence[str]) -> Connection:
    """Return the channel that the command line names: an inherited socket or a port to connect to."""
    kind, number = argv[0], int(argv[1])
    if kind == "--channel-fd":
        return Connection(socket.socket(fileno=number))
    secret = sys.stdin.buffer.read()
    sock = socket.create_connection(("127.0.0.1", number), timeout=30)
    sock.sendall(secret)
    return Connection(sock)


def make_engine(setup: wm.Setup) -> Engine:
    """Import and make the engine; the import decides which libraries this process loads."""
    from ..engines.engine import EngineSettings

    settings = EngineSettings(setup.device, setup.conditioning_cache_bytes, setup.patch_cache_bytes)
    make = {"comfy": _make_comfy_engine, "hf": _make_hf_engine}[setup.engine]
    return make(setup, settings)


def _make_comfy_engine(setup: wm.Setup, settings: EngineSettings) -> Engine:
    from ..engines.comfy.boot import boot

    folder = Path(setup.comfyui_path)
    boot(folder, setup.device, setup.numerics)
    from ..engines.comfy.engine import ComfyEngine  # now that its settings are set

    return ComfyEngine(settings, folder, setup.numerics)


def _make_hf_engine(setup: wm.Setup, settings: EngineSettings) -> Engine:
    from ..engines.hf.engine import HfEngine

    return HfEngine(settings)


def main(argv: Sequence[str]) -> int:
    """Run a worker; the supervisor calls this through the launcher."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the supervisor, which stops us
    connection = connect_to_supervisor(argv)
    try:
        setup = to_worker.decode(connection.receive())
    except ConnectionLostError:
        return 1
    if not isinstance(setup, wm.Setup):
        raise BadRequestError("A worker must be told first what it is.")
    logging.getLogger("luna").setLevel(setup.log_level.upper())
    logging.getLogger("luna").addHandler(_LogToSupervisor(connection))
    try:
        engine = make_engine(setup)
    except Exception:  # boundary: whatever is wrong with a library, the daemon's log must say it
        log.exception("the engine '%s' cannot be loaded", setup.engine)
        return 1
    versions = engine.versions()
    connection.send(
        encode(wm.Ready(torch=versions.get("torch", ""), comfyui=versions.get("comfyui", "")))
    )
    WorkerLoop(connection, engine).serve()
    # Not sys.exit: a computation in the executor thread must not hold up the end of the process.
    os._exit(0)
