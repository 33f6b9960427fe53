"""Listens, lets clients in, and reads their messages.

A connection must introduce itself within the handshake time-out, in frames of a few kilobytes; only
then may it send more. Whatever a connection does, it harms itself alone.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Coroutine
from typing import Any

from ..utils.log import get_logger
from .answer import Answer
from .dispatcher import answer_at_once, dispatch
from .errors import (
    AuthError,
    CanceledError,
    ConnectionLostError,
    DaemonError,
    InternalError,
    ProtocolError,
)
from .monitoring.request_record import open_trace
from .monitoring.request_trace import tracing
from .protocol import messages as m
from .protocol.codec import agree_version, encode, failure, request_head_of, to_daemon
from .protocol.framing import HELLO_LIMITS, Frame, Limits
from .sessions import MAX_UNDER_WAY, Session
from .supervisor import Supervisor
from .transport import authentication as auth
from .transport.channel import Channel
from .transport.endpoints import Endpoint, listen_tcp, listen_unix
from .transport.ladder import choose_tier, usable_tiers
from .version import PACKAGE_VERSION

log = get_logger("server")
_session_numbers = itertools.count(1)
ACCEPT_PAUSE_S = 0.1


class Server:
    """The daemon's sockets."""

    def __init__(self, daemon: Supervisor, endpoint: Endpoint) -> None:
        self.daemon = daemon
        self.endpoint = endpoint
        self.port = 0
        self._token = ""
        self._listeners: list[socket.socket] = []

    def open(self) -> None:
        """Begin to listen: on the unix socket where there is one, and on loopback TCP.

        Raises:
            ConfigError: An address cannot be used.
            AuthError: The token file cannot be trusted.
        """
        self._token = auth.load_or_make_token(self.endpoint.token_path)
        tcp = listen_tcp(self.endpoint.host, self.endpoint.port)
        self._listeners.append(tcp)
        self.port = tcp.getsockname()[1]
        if self.endpoint.socket_path is not None:
            self._listeners.append(listen_unix(self.endpoint.socket_path))
        for listener in self._listeners:
            listener.setblocking(False)
            self._watch(listener)

    def close(self) -> None:
        """Let nobody in any more."""
        loop = asyncio.get_running_loop()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            loop.remove_reader(listener)
            listener.close()
        if self.endpoint.socket_path is not None:
            self.endpoint.socket_path.unlink(missing_ok=True)

    def _watch(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        over_unix = listener.family == getattr(socket, "AF_UNIX", -1)
        try:
            sock, _ = listener.accept()
            Visitor(self.daemon, sock, self._token, over_unix)
        except (BlockingIOError, InterruptedError):
            return  # whoever knocked has gone
        except OSError as error:
            log.warning("a connection could not be accepted: %s", error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)  # out of descriptors, perhaps: let some be closed first
            loop.call_later(ACCEPT_PAUSE_S, self._watch, listener)


class Visitor:
    """One connection, from its first byte to its last."""

    def __init__(
        self, daemon: Supervisor, sock: socket.socket, token: str, over_unix: bool
    ) -> None:
        self.daemon = daemon
        self.over_unix = over_unix
        self.session: Session | None = None
        self._token = token
        self._sock = sock
        self._hello: m.Hello | None = None
        self._nonce = auth.make_nonce()
        self._refused = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.channel = Channel(sock, self._on_frame, self._on_close, limits=HELLO_LIMITS)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(daemon.config.handshake_timeout_s, self._too_slow)

    def _on_frame(self, frame: Frame) -> None:
        if self._refused:
            return  # what came together with the frame that was refused
        try:
            if self.session is None:
                self._on_stranger(to_daemon.decode(frame))
            else:
                self._on_session_frame(self.session, frame)
        except DaemonError as error:
            self._refuse(error)
        except Exception:  # boundary: a fault of ours ends one connection, and its peer hears of it
            log.exception("a message was not handled by our fault")
            self._refuse(InternalError("The daemon failed with this connection."))

    def _on_stranger(self, message: m.ToDaemon) -> None:
        if isinstance(message, m.Hello) and self._hello is None:
            self._on_hello(message)
        elif isinstance(message, m.Proof) and self._hello is not None:
            nonces = (self._hello.nonce, self._nonce)
            auth.check_proof(self._token, auth.CLIENT, nonces, message.proof)
            self._open_session(self._hello)
        else:
            raise ProtocolError("A connection must begin with a hello.")

    def _on_session_frame(self, session: Session, frame: Frame) -> None:
        try:
            message = to_daemon.decode(frame)
        except ProtocolError as error:
            head = request_head_of(frame)
            if head is None or head.id in session.requests:
                raise
            # One request makes no sense; the others of its connection do.
            self.daemon.metrics.count("request_failure", operation=head.type, reason=error.code)
            self._spawn(self._send(session, Answer(failure(error, head.id))), session.serving)
            self._pause_when_full(session)
        else:
            self._on_message(session, message, frame.payloads)

    def _on_hello(self, hello: m.Hello) -> None:
        self._hello = hello
        if self.over_unix:
            auth.check_peer(self._sock)
            self._open_session(hello)
            return
        proof = auth.prove(self._token, auth.DAEMON, hello.nonce, self._nonce)
        self._spawn(self.channel.send(encode(m.Challenge(nonce=self._nonce, proof=proof))))

    def _open_session(self, hello: m.Hello) -> None:
        protocol = agree_version(hello.versions.protocol)
        tier = choose_tier(usable_tiers(self.daemon.config.transport, self.over_unix), hello.tiers)
        arena_bytes = self.daemon.config.arena_mb * 2**20
        session = Session(next(_session_numbers), self.channel, tier, arena_bytes)
        session.pid = hello.pid
        session.on_demoted = lambda tier: self.daemon.metrics.count(
            "transport_demotions", tier=tier
        )
        self.session = self.daemon.sessions[session.number] = session
        self._timer.cancel()
        self.channel.reader.limits = Limits()
        self.daemon.metrics.count("sessions_opened")
        self._spawn(self._welcome(session, protocol))

    async def _welcome(self, session: Session, protocol: int) -> None:
        versions = m.Versions(package=PACKAGE_VERSION, protocol=m.PROTOCOL_VERSIONS)
        await session.send(
            m.Welcome(
                versions=versions,
                protocol=protocol,
                boot_id=self.daemon.boot_id,
                session=session.number,
                tier=session.tier,
                engine=self.daemon.engine,
                service_type=self.daemon.config.service_type,
            )
        )
        await session.open_upload()

    def _on_message(self, session: Session, message: Any, payloads: tuple[memoryview, ...]) -> None:
        if isinstance(message, m.Request):
            if message.id in session.requests:
                raise ProtocolError(f"The request id {message.id} is already under way.")
            answer = answer_at_once(self.daemon, session, message)
            if answer is not None:
                self._send_at_once(session, answer)
                return
            work = asyncio.create_task(dispatch(self.daemon, session, message, payloads))
            session.requests[message.id] = work
            self._spawn(self._serve(session, message, work), session.serving)
            self._pause_when_full(session)
        elif isinstance(message, m.Cancel):
            if message.id in session.requests:
                session.requests[message.id].cancel()
        elif isinstance(message, m.Acknowledge):
            self._spawn(session.acknowledge(message.slots))
        elif isinstance(message, m.Demoted):
            session.demote(message.reason)
        else:
            raise ProtocolError("That message has no place in an open session.")

    async def _serve(
        self, session: Session, request: m.Request, work: asyncio.Task[Answer]
    ) -> None:
        """Send the answer of a request. Only the work can be cancelled, never a half-sent answer."""
        try:
            answer = await work
        except asyncio.CancelledError:
            answer = Answer(failure(CanceledError("The request was cancelled."), request.id))
        session.requests.pop(request.id, None)
        await self._send(session, answer)

    def _send_at_once(self, session: Session, answer: Answer) -> None:
        """Send an answer without a task of its own, as far as the client takes it."""
        try:
            rest = session.channel.send_now(encode(answer.message), answer.payloads)
        except DaemonError:  # larger than a message may be, for one: `_send` deals with it
            rest = session.send(answer.message, answer.payloads)
        if rest is not None:
            self._spawn(self._send(session, answer, rest), session.serving)
            self._pause_when_full(session)

    async def _send(
        self, session: Session, answer: Answer, rest: Coroutine[Any, Any, None] | None = None
    ) -> None:
        """Send an answer, or the rest of it."""
        try:
            await (rest or session.send(answer.message, answer.payloads))
        except ConnectionLostError:
            with tracing(open_trace(session, answer.message)):
                log.debug("the client left before its reply")
        except DaemonError as error:  # larger than a message may be, for one
            log.exception("session %d: an answer could not be sent", session.number)
            await session.send(failure(InternalError(error.message), answer.message.id))
        if not self._refused:
            self.channel.resume()

    def _pause_when_full(self, session: Session) -> None:
        """Read no further requests while many answers are under way, also those nobody takes."""
        if len(session.serving) >= MAX_UNDER_WAY:
            self.channel.pause()

    def _refuse(self, error: DaemonError) -> None:
        """Tell a peer why it is not understood, and close."""
        self._refused = True
        self._timer.cancel()
        self.channel.pause()
        level = log.warning if isinstance(error, (AuthError, ProtocolError)) else log.info
        level("a connection was closed: %s", error)
        self.daemon.metrics.count("connections_refused", reason=error.code)
        self._spawn(self._say_and_close(error))

    async def _say_and_close(self, error: DaemonError) -> None:
        try:
            await self.channel.send(encode(failure(error, 0)))
        except ConnectionLostError:
            log.debug("the peer left before it could be told why")
        self.channel.close()

    def _too_slow(self) -> None:
        self._refuse(ProtocolError("The connection did not introduce itself in time."))

    def _on_close(self, error: Exception | None) -> None:
        self._timer.cancel()
        if isinstance(error, ProtocolError):
            log.warning("a connection was closed: %s", error)
            self.daemon.metrics.count("connections_refused", reason=error.code)
        session, self.session = self.session, None
        if session is None:
            return
        self.daemon.sessions.pop(session.number, None)
        self.daemon.registry.session_ended(session.number, asyncio.get_running_loop().time())
        self._spawn(session.close())

    def _spawn(
        self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]] | None = None
    ) -> None:
        """Run something beside; keep it until it is done, and let no failure pass unseen."""
        kept = self._tasks if tasks is None else tasks
        task = asyncio.create_task(work)
        kept.add(task)
        task.add_done_callback(kept.discard)
        task.add_done_callback(self._report)

    def _report(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, ConnectionLostError):
            log.error("a connection's task failed", exc_info=error)
