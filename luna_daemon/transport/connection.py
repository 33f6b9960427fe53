"""A blocking socket that carries frames, with deadlines. Used by clients and workers.

Receiving and sending may happen in different threads; each is serialised by its caller or a lock.
"""

from __future__ import annotations

import array
import contextlib
import math
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ..errors import ConnectionLostError, DeadlineError
from ..protocol.framing import Frame, FrameReader, FrameState, Limits, frame_head

_MAX_FDS = 8
_FDS_BYTES = array.array("i").itemsize * _MAX_FDS
_JOIN_BYTES = 64 * 1024  # payloads up to this size are sent in one piece with their header
_FIRST_BYTES = 4096  # a header, mostly; the tensors behind it go straight to their place
_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)
# Where sending cannot be told not to wait (Windows), a socket that takes bytes takes as many at once.
_PIECE_BYTES = 2**30 if _DONT_WAIT else 16 * 1024
_LOOK_S = 0.05  # how often a sender that waits looks whether it is to give up


class Deadline:
    """One budget of seconds across several steps."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def restart(self) -> None:
        """Give the whole budget once more."""
        if self.seconds is not None:
            self._end = time.monotonic() + self.seconds

    def remaining(self) -> float:
        """Seconds left, never negative; infinite without a limit."""
        return max(0.0, self._end - time.monotonic())

    @property
    def expired(self) -> bool:
        """Is the time over?"""
        return time.monotonic() >= self._end


class Connection:
    """Frames over a connected stream socket, which it owns."""

    def __init__(self, sock: socket.socket, limits: Limits | None = None) -> None:
        self.sock = sock
        self.reader = FrameReader(limits, _FIRST_BYTES)
        self._fds: deque[int] = deque()
        self._takes_fds = hasattr(socket, "recv_fds") and sock.family == getattr(
            socket, "AF_UNIX", -1
        )
        self._ancillary_bytes = socket.CMSG_SPACE(_FDS_BYTES) if self._takes_fds else 0
        self._incoming = _poller(sock, to_send=False)
        self._send_lock = threading.Lock()
        self._inside = False  # a frame has been sent in part
        self.closed = False
        sock.setblocking(True)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(
        self,
        header: bytes,
        payloads: Sequence[memoryview] = (),
        fds: Sequence[int] = (),
        *,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Send one frame whole.

        `give_up` is called every 50 ms while the peer takes nothing; what it raises ends the sending.
        Ended inside the frame, by that or by anything else, it closes: nothing may follow half a frame.

        Raises:
            ConnectionLostError: The peer is gone.
        """
        head = frame_head(header)
        if payloads and sum(len(p) for p in payloads) <= _JOIN_BYTES:
            head, payloads = b"".join((head, *payloads)), ()
        while not self._send_lock.acquire(timeout=_LOOK_S):
            give_up()
        self._inside = False
        try:
            if fds:
                head = head[self._send_fds(head, fds) :]
            for piece in (memoryview(head), *payloads):
                self._send_all(piece, give_up)
            self._inside = False
        except (OSError, ValueError) as error:  # ValueError: closed by another thread
            raise ConnectionLostError(f"The connection broke while sending ({error}).") from error
        finally:
            if self._inside:
                self.close()
            self._send_lock.release()

    def receive(self, deadline: Deadline | None = None) -> Frame:
        """Return the next frame.

        Raises:
            DeadlineError: None came in time; the connection is still good.
            ConnectionLostError: The peer closed or died; the message says whether inside a frame.
            ProtocolError: The peer does not speak the protocol; close the connection.
        """
        deadline = deadline or Deadline(None)
        while (frame := self.reader.pop()) is None:
            if self._rest_is_here():
                continue
            if not self._readable(deadline.remaining()):
                raise DeadlineError(f"No answer within {deadline.seconds:g} s.")
            self._receive_some()
        return frame

    def take_fd(self) -> int:
        """Return the oldest file descriptor that came with a frame; the caller owns it.

        Raises:
            ConnectionLostError: None came, though the peer announced one.
        """
        if not self._fds:
            raise ConnectionLostError("The peer announced shared memory but did not send it.")
        return self._fds.popleft()

    def fileno(self) -> int:
        """The socket's descriptor, for `select`."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close the socket and descriptors nobody took; a blocked receive in another thread ends."""
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(OSError):  # the peer may have closed already
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        while self._fds:
            os.close(self._fds.popleft())

    def _send_fds(self, head: bytes, fds: Sequence[int]) -> int:
        count = socket.send_fds(self.sock, [head], list(fds))
        self._inside = True
        return count

    def _send_all(self, data: memoryview, give_up: Callable[[], None]) -> None:
        while len(data):
            try:
                if not _DONT_WAIT and not _ready_to_send(self.sock):
                    raise BlockingIOError
                data = data[self.sock.send(data[:_PIECE_BYTES], _DONT_WAIT) :]
                self._inside = True
            except BlockingIOError:
                give_up()
                _ready_to_send(self.sock)

    def _readable(self, seconds: float) -> bool:
        if self.closed:  # its number may be another socket's by now
            raise ConnectionLostError("The connection was closed.")
        try:
            return _ready(self.sock, seconds, self._incoming)
        except (OSError, ValueError) as error:
            raise ConnectionLostError("The connection was closed.") from error

    def _rest_is_here(self) -> bool:
        """Receive more of a frame's tensors without waiting: mostly they have come with its header."""
        if not _DONT_WAIT or self.closed or self.reader.state is not FrameState.SEGMENTS:
            return False
        try:
            self._receive_some(_DONT_WAIT)
        except BlockingIOError:
            return False
        return True

    def _receive_some(self, flags: int = 0) -> None:
        try:
            if self._takes_fds:
                count = self._receive_with_fds(self.reader.buffers(), flags)
            else:
                count = self.sock.recv_into(self.reader.buffer(), 0, flags)
        except BlockingIOError:
            raise  # there is nothing, and the flags say not to wait
        except OSError as error:
            raise ConnectionLostError(f"The connection broke while receiving ({error}).") from error
        if count == 0:
            where = self.reader.close()
            inside = " in the middle of a message" if where is FrameState.TRUNCATED else ""
            raise ConnectionLostError(f"The other side closed the connection{inside}.")
        self.reader.advance(count)

    def _receive_with_fds(self, buffers: list[memoryview], flags: int) -> int:
        count, ancillary, _flags, _address = self.sock.recvmsg_into(
            buffers, self._ancillary_bytes, flags
        )
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                for fd in fds:
                    os.set_inheritable(fd, False)
                    self._fds.append(fd)
        return count


def _poller(sock: socket.socket, *, to_send: bool) -> select.poll | None:
    """Return what waits for a socket; it has no limit on descriptor numbers, unlike select."""
    if not hasattr(select, "poll"):
        return None
    poller = select.poll()
    poller.register(sock, select.POLLOUT if to_send else select.POLLIN)
    return poller


def _ready(
    sock: socket.socket, seconds: float, poller: select.poll | None, *, to_send: bool = False
) -> bool:
    """Wait until a socket has bytes for us, or takes some of ours; False when it did not in time."""
    if poller is not None:
        return bool(poller.poll(None if math.isinf(seconds) else math.ceil(seconds * 1000)))
    watched = ([], [sock]) if to_send else ([sock], [])
    found = select.select(*watched, [], None if math.isinf(seconds) else seconds)
    return any(found)


def _ready_to_send(sock: socket.socket) -> bool:
    return _ready(sock, _LOOK_S, _poller(sock, to_send=True), to_send=True)
