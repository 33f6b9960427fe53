"""One connection to a daemon: the hello, requests under way, and shared memory.

Any number of threads may call at once. Whoever waits reads for all: one of the waiting threads receives
frames and hands the others theirs, so that a call needs no second thread and no switch between threads.
torch is imported with the first tensor: asking for the daemon's status needs none.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from ..utils.log import get_logger
from .calls import LinkReply, Pending, RawReply, Watch
from .config import DaemonConfig
from .errors import (
    ConnectionLostError,
    DaemonError,
    DaemonHangsError,
    DeadlineError,
    IncompatibleError,
    ProtocolError,
)
from .link_memory import LinkMemory
from .protocol import messages as m
from .protocol.codec import encode, error_of, replace_segments, to_client
from .protocol.framing import Frame
from .protocol.segments import Segment
from .transport import authentication as auth
from .transport.connection import Connection, Deadline
from .transport.endpoints import connect
from .transport.ladder import INLINE, usable_tiers
from .version import PACKAGE_VERSION

if TYPE_CHECKING:
    import torch

log = get_logger("client")
POLL_S = 0.05  # how often a waiting call looks whether it is to give up
TELL_TIMEOUT_S = 0.5  # a call that gives up must not hang in telling so


class Link:
    """A session with a daemon. Made by `open`; once broken it is never used again."""

    def __init__(self, connection: Connection, welcome: m.Welcome, config: DaemonConfig) -> None:
        self.welcome = welcome
        self.tier = welcome.tier
        self.pid = os.getpid()
        self.broken: DaemonError | None = None
        self.ended = False  # closed by its owner: nobody is to connect again
        self.registered: set[str] = set()  # workflows that this session has registered
        self.proved: set[str] = set()  # pools whose tier a canary has proved
        self._config = config
        self._connection = connection
        self._ids = itertools.count(1)
        self._pending: dict[int, Pending] = {}
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._reading = False
        self._memory = LinkMemory()
        self._calls = 0  # under way, in whatever state

    @classmethod
    def open(cls, config: DaemonConfig) -> Link:
        """Connect and introduce ourselves.

        Raises:
            DaemonUnreachableError: Nobody answers, or not in time.
            AuthError: The daemon does not know our token, or we do not know its.
            IncompatibleError: The versions do not fit.
        """
        deadline = Deadline(config.connect_timeout_s)
        sock = connect(config.endpoint, config.connect_timeout_s)
        over_unix = sock.family == getattr(socket, "AF_UNIX", -1)
        connection = Connection(sock)
        try:
            return cls(connection, _greet(connection, config, over_unix, deadline), config)
        except DeadlineError as error:
            connection.close()
            raise DaemonHangsError(
                f"The Luna daemon at {config.endpoint} does not answer.",
                "It hangs or is stopped; look at its log: luna-daemon logs.",
            ) from error
        except BaseException:  # boundary: also an interrupt must not leak the socket; raised again
            connection.close()
            raise

    def next_id(self) -> int:
        """Return a fresh request id."""
        return next(self._ids)

    def call(
        self, request: m.Request, watch: Watch, tensors: Sequence[torch.Tensor] = ()
    ) -> LinkReply:
        """Send a request and wait for its reply.

        Raises:
            ConnectionLostError: The daemon went away.
            DeadlineError: No reply in time; the request is cancelled.
            DaemonUnreachableError: No reply, nor any sign of life, while a patient call waited.
            DaemonError: Whatever the daemon reports.
        """
        with self._lock:
            self._calls += 1  # from here on shared memory stays mapped
        try:
            return self._call(request, watch, tensors)
        finally:
            with self._lock:
                self._calls -= 1
            self._unmap_unused()

    def _call(self, request: m.Request, watch: Watch, tensors: Sequence[torch.Tensor]) -> LinkReply:
        if self.broken is not None:
            raise self.broken
        segments, payloads = self._pack(tensors)
        pending = Pending(watch, segments)
        with self._lock:
            if self.broken is not None:
                raise self.broken
            self._pending[request.id] = pending
        try:
            header = encode(replace_segments(request, segments) if segments else request)
            self._connection.send(header, payloads, give_up=lambda: self._check(watch))
        except ConnectionLostError as error:
            self._break(error)
            raise
        except BaseException:  # boundary: an interrupt may be any exception; it is raised again
            self._forget(request.id, pending)
            raise
        self._wait(request.id, pending)
        if pending.error is not None:
            raise pending.error
        return self._take(cast(RawReply, pending.reply))

    def demote(self, reason: str) -> None:
        """Give up the tier of this connection and tell everybody."""
        if self.tier == INLINE:
            return
        log.warning("tensors travel inside messages instead of '%s': %s", self.tier, reason)
        tier, self.tier = self.tier, INLINE
        self._tell(m.Demoted(tier=tier, to=INLINE, reason=reason[:500]))

    def close(self) -> None:
        """End the session, and the calls that wait in other threads."""
        self.ended = True
        self._break(ConnectionLostError("The client was closed."))

    def _wait(self, request_id: int, pending: Pending) -> None:
        try:
            while not self._settled(pending):
                pending.tell_events()
                self._check(pending.watch)
            pending.tell_events()
        except BaseException:  # boundary: an interrupt may be any; the daemon must hear of it
            self._abandon(request_id, pending)
            raise

    def _check(self, watch: Watch) -> None:
        """Raise what ends the wait. A patient one goes on while the daemon does not hang."""
        try:
            watch.check()
        except DeadlineError:
            if not watch.patient:
                raise
            self._look_for_life()
            watch.deadline.restart()

    def _look_for_life(self) -> None:
        """Break the link when the daemon hangs. One that has ended would have closed the connection."""
        try:
            Link.open(self._config).close()
        except DaemonHangsError as error:
            self._break(error)
            raise
        except DaemonError as error:  # it may be stopping, and finish its work before
            log.debug("the daemon works, and takes no new connection: %s", error)

    def _settled(self, pending: Pending) -> bool:
        """Wait a little, reading for everybody if nobody else does; tell whether the reply is there."""
        with self._lock:
            if pending.reply is not None or pending.error is not None:
                return True
            if self._reading:
                self._changed.wait(POLL_S)
                return pending.reply is not None or pending.error is not None
            self._reading = True
        try:
            self._read_frame()
        finally:
            with self._lock:
                self._reading = False
                self._changed.notify_all()
        return pending.reply is not None or pending.error is not None

    def _read_frame(self) -> None:
        try:
            frame = self._connection.receive(Deadline(POLL_S))
            self._on_message(to_client.decode(frame), frame)
        except DeadlineError:
            return
        except (ConnectionLostError, ProtocolError) as error:
            self._break(error)

    def _on_message(self, message: m.ToClient, frame: Frame) -> None:
        if isinstance(message, m.Request):
            if isinstance(message, m.Failure) and message.id == 0:
                self._break(error_of(message))
            else:
                self._on_reply(message, frame)
        elif isinstance(message, (m.Progress, m.Notice)):
            self._on_event(message)
        elif isinstance(message, m.OfferArena):
            try:
                self._memory.map(message, self._connection.take_fd)
            except DaemonError as error:
                self.demote(str(error))
        elif isinstance(message, m.DropArena):
            self._memory.drop(message.arena)
        else:
            self._break(ProtocolError("The daemon sent a message that has no place in a session."))

    def _on_event(self, event: m.Progress | m.Notice) -> None:
        """Keep an event for the thread that made the call: what a callback raises is for it alone."""
        pending = self._pending.get(event.id)
        if pending is not None and not pending.abandoned:
            pending.events.append(event)

    def _on_reply(self, message: m.Request, frame: Frame) -> None:
        with self._lock:
            pending = self._pending.pop(message.id, None)
            if pending is None:
                return
            if isinstance(message, m.Failure):
                pending.error = error_of(message)
            elif not pending.abandoned:
                pending.reply = RawReply(message, frame, self._memory.readers, self._memory.results)
        self._memory.free(pending.uploads)
        if pending.abandoned:
            self._acknowledge(message.segments)

    def _abandon(self, request_id: int, pending: Pending) -> None:
        """Give up a request. Its arena slots stay taken until the daemon's reply says it is done."""
        with self._lock:
            pending.abandoned = request_id in self._pending
        if pending.reply is not None:
            self._acknowledge(pending.reply.message.segments)
        if pending.abandoned:
            self._tell(m.Cancel(id=request_id))

    def _forget(self, request_id: int, pending: Pending) -> None:
        """Drop a request that was not sent; sent in part, it has ended the connection."""
        with self._lock:
            self._pending.pop(request_id, None)
        self._memory.free(pending.uploads)
        if self._connection.closed:
            self._break(ConnectionLostError("A request was given up while it was sent."))

    def _break(self, error: DaemonError) -> None:
        with self._lock:
            if self.broken is None:
                self.broken = error
            for pending in self._pending.values():
                pending.error = self.broken
            self._pending.clear()
            self._changed.notify_all()
        self._connection.close()
        self._unmap_unused()

    def _unmap_unused(self) -> None:
        """Give up the shared memory that nobody looks into any more."""
        with self._lock:
            if self._calls:
                return
            self._memory.unmap(everything=self.broken is not None)

    def _pack(
        self, tensors: Sequence[torch.Tensor]
    ) -> tuple[tuple[Segment, ...], list[memoryview]]:
        if not tensors:
            return (), []
        from .transport.tensors import pack

        return pack(tensors, self._memory.upload if self.tier != INLINE else None)

    def _take(self, reply: RawReply) -> LinkReply:
        try:
            return reply.unpacked()
        finally:
            self._acknowledge(reply.message.segments)

    def _acknowledge(self, segments: Sequence[Segment]) -> None:
        if not segments:
            return
        slots = tuple(
            (s.slot.arena, s.slot.offset, s.slot.generation) for s in segments if s.slot is not None
        )
        if slots and self.broken is None:
            self._tell(m.Acknowledge(slots=slots))

    def _tell(self, message: m.Message) -> None:
        """Send what has no reply. A daemon that takes not even that is lost."""
        try:
            give_up = Watch(Deadline(TELL_TIMEOUT_S)).check
            self._connection.send(encode(message), give_up=give_up)
        except (ConnectionLostError, DeadlineError) as error:
            self._break(ConnectionLostError(f"The daemon takes no message any more ({error})."))


def _greet(
    connection: Connection, config: DaemonConfig, over_unix: bool, deadline: Deadline
) -> m.Welcome:
    nonce = auth.make_nonce()
    torch_version = str(getattr(sys.modules.get("torch"), "__version__", ""))
    versions = m.Versions(
        package=PACKAGE_VERSION, protocol=m.PROTOCOL_VERSIONS, torch=torch_version
    )
    tiers = usable_tiers(config.transport, over_unix)
    hello = m.Hello(versions=versions, nonce=nonce, pid=os.getpid(), tiers=tiers)
    connection.send(encode(hello))
    reply = to_client.decode(connection.receive(deadline))
    if isinstance(reply, m.Challenge):
        token = auth.read_token(config.endpoint.token_path)
        auth.check_proof(token, auth.DAEMON, (nonce, reply.nonce), reply.proof)
        proof = auth.prove(token, auth.CLIENT, nonce, reply.nonce)
        connection.send(encode(m.Proof(proof=proof)))
        reply = to_client.decode(connection.receive(deadline))
    if isinstance(reply, m.Failure):
        raise error_of(reply)
    if not isinstance(reply, m.Welcome):
        raise IncompatibleError("The daemon did not answer the hello as expected.")
    return reply
