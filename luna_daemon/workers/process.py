"""One worker process as the supervisor sees it: start, request and reply, events, death.

The two speak over a private channel: a socket pair that the child inherits, or, where descriptors
cannot be inherited (Windows), a loopback connection that the child opens with a one-time secret from
its standard input. The channel's end is the child's end, in both directions: a worker whose supervisor
is gone exits, however it died.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...utils.log import get_logger
from ..errors import ConnectionLostError, DaemonError, WorkerDiedError
from ..monitoring.request_trace import Trace, current_trace, tracing
from ..protocol.codec import encode, error_of, from_worker
from ..protocol.framing import Frame
from ..protocol.messages import Failure, Message, Ping, Progress, Request
from ..protocol.worker_messages import LogLine, Ready, Setup
from ..transport.channel import Channel
from .environment import worker_environment

log = get_logger("worker")
LAUNCHER = Path(__file__).resolve().parent.parent / "daemon_server.py"
SECRET_BYTES = 32
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's reply and the inline tensors that came with it."""

    message: Request
    payloads: tuple[memoryview, ...]


@dataclass(slots=True)
class _Pending:
    future: asyncio.Future[Reply]
    on_progress: Callable[[int, int], None] | None
    trace: Trace | None = field(default_factory=current_trace)


class WorkerProcess:
    """A running worker. Make it with `start`; a dead one is never used again."""

    def __init__(self, setup: Setup, process: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self.name = setup.name
        self.process = process
        self.pid = process.pid
        self.started_at = time.monotonic()
        self.last_sign = time.monotonic()
        self.versions: Ready | None = None
        self.dead: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._pending: dict[int, _Pending] = {}
        self._ids = itertools.count(1)
        self._channel = Channel(sock, self._on_frame, self._on_close)

    @classmethod
    async def start(  # noqa: PLR0913  (choices by keyword)
        cls,
        setup: Setup,
        device: str,
        threads: int,
        timeout_s: float,
        *,
        inherit: bool | None = None,
        python: Path | None = None,
    ) -> WorkerProcess:
        """Start a process and wait until it can take work.

        Args:
            setup: What it is told first.
            device: The device as this process counts GPUs.
            threads: CPU threads; 0 takes all cores.
            timeout_s: How long it may take.
            inherit: Pass the channel as an inherited socket; default: wherever that is possible.
            python: The interpreter to run; default: the one that runs this.

        Raises:
            WorkerDiedError: It ended or was not ready in time; the daemon's log has its words.
        """
        env = worker_environment(device, threads, os.environ)
        inherit = sys.platform != "win32" if inherit is None else inherit
        command = [str(python or sys.executable), str(LAUNCHER), "worker"]
        process, sock = await (
            _spawn_inheriting(command, env)
            if inherit
            else _spawn_connecting(command, env, timeout_s)
        )
        worker = cls(setup, process, sock)
        try:
            await worker.post(setup)
            worker.versions = await asyncio.wait_for(worker._ready, timeout_s)
        except (asyncio.TimeoutError, ConnectionLostError, WorkerDiedError) as error:
            worker.kill("it did not start")
            raise WorkerDiedError(
                f"The worker process '{setup.name}' did not start.",
                "The daemon's log says why: luna-daemon logs.",
            ) from error
        except BaseException:  # boundary: nobody waits for it any more: it must not live on
            worker.kill("it is no longer wanted")
            raise
        return worker

    async def request(
        self,
        message: Request,
        payloads: Sequence[memoryview] = (),
        on_progress: Callable[[int, int], None] | None = None,
        *,
        fds: Sequence[int] = (),
    ) -> Reply:
        """Send a request whose id is from `next_id` and wait for the reply.

        Raises:
            WorkerDiedError: The process ended first.
            DaemonError: Whatever the worker reports.
        """
        if self.dead.done():
            raise WorkerDiedError(f"The worker process '{self.name}' has ended.")
        pending = _Pending(asyncio.get_running_loop().create_future(), on_progress)
        self._pending[message.id] = pending
        try:
            await self._send(message, payloads, fds)
            return await pending.future
        finally:
            self._pending.pop(message.id, None)

    async def post(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message that has no reply.

        Raises:
            WorkerDiedError: The process has ended.
        """
        await self._send(message, (), fds)

    def next_id(self) -> int:
        """Return a fresh request id."""
        return next(self._ids)

    async def ping(self) -> None:
        """Ask for a sign of life."""
        await self.request(Ping(id=self.next_id()))

    def kill(self, reason: str) -> None:
        """End the process at once."""
        self._die(reason)
        self.process.kill()
        self._reap()

    @property
    def end(self) -> str:
        """Why it has ended: what `dead` says, and its exit code when that is known by now."""
        reason, code = self.dead.result(), self.process.poll()
        told = code is None or reason.endswith(f" code {code}")
        return reason if told else f"{reason.rstrip('.')}; exit code {code}"

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the process by closing its channel; kill it when that takes too long."""
        self._die("it was stopped")
        await asyncio.to_thread(self._wait_or_kill, timeout_s)

    async def _send(
        self, message: Message, payloads: Sequence[memoryview], fds: Sequence[int] = ()
    ) -> None:
        try:
            await self._channel.send(encode(message), payloads, fds)
        except ConnectionLostError as error:
            raise WorkerDiedError(f"The worker process '{self.name}' has ended.") from error

    def _on_frame(self, frame: Frame) -> None:
        self.last_sign = time.monotonic()
        try:
            message = from_worker.decode(frame)
        except DaemonError as error:
            self.kill(f"it sent nonsense: {error}")
            return
        if isinstance(message, Progress):
            pending = self._pending.get(message.id)
            if pending and pending.on_progress:
                pending.on_progress(message.done, message.total)
        elif isinstance(message, LogLine):
            about = self._pending.get(message.job)
            with tracing(about.trace if about else None):
                get_logger(message.logger).log(message.level, "[%s] %s", self.name, message.text)
        elif isinstance(message, Ready):
            if not self._ready.done():
                self._ready.set_result(message)
        else:
            self._settle(message, frame.payloads)

    def _settle(self, message: Request, payloads: tuple[memoryview, ...]) -> None:
        pending = self._pending.pop(message.id, None)
        if pending is None or pending.future.done():
            return
        if isinstance(message, Failure):
            pending.future.set_exception(error_of(message))
        else:
            pending.future.set_result(Reply(message, payloads))

    def _on_close(self, error: Exception | None) -> None:
        code = self.process.poll()
        self._die(
            f"it ended with code {code}"
            if code is not None
            else str(error or "it closed its channel")
        )
        self._reap()

    def _reap(self) -> None:
        """See to it, beside, that the process ends and leaves no zombie."""
        asyncio.get_running_loop().run_in_executor(None, self._wait_or_kill, STOP_TIMEOUT_S)

    def _wait_or_kill(self, timeout_s: float) -> None:
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _die(self, reason: str) -> None:
        if self.dead.done():
            return
        self.dead.set_result(reason)
        died = WorkerDiedError(
            f"The worker process '{self.name}' ended while it worked ({reason})."
        )
        if not self._ready.done():
            self._ready.set_exception(died)
            self._ready.exception()  # retrieved: start() may no longer be waiting for it
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(died)
        self._pending.clear()
        self._channel.close()


async def _spawn_inheriting(
    command: list[str], env: dict[str, str]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.to_thread(
            subprocess.Popen,
            [*command, "--channel-fd", str(theirs.fileno())],
            env=env,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    return process, ours


async def _spawn_connecting(
    command: list[str], env: dict[str, str], timeout_s: float
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    secret = secrets.token_bytes(SECRET_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        process = await asyncio.to_thread(
            subprocess.Popen,
            [*command, "--channel-port", str(port)],
            env=env,
            stdin=subprocess.PIPE,
        )
        assert process.stdin is not None, "stdin was asked for"
        process.stdin.write(secret)
        process.stdin.close()
        try:
            return process, await asyncio.wait_for(_accept(listener, secret), timeout_s)
        except asyncio.TimeoutError as error:
            process.kill()
            await asyncio.to_thread(process.wait)
            raise WorkerDiedError("A worker process did not connect to the daemon.") from error


async def _accept(listener: socket.socket, secret: bytes) -> socket.socket:
    """Accept the connection that shows the secret; others are closed."""
    loop = asyncio.get_running_loop()
    while True:
        sock, _ = await loop.sock_accept(listener)
        shown = b""
        while len(shown) < SECRET_BYTES and (
            part := await loop.sock_recv(sock, SECRET_BYTES - len(shown))
        ):
            shown += part
        if hmac.compare_digest(shown, secret):
            return sock
        sock.close()
