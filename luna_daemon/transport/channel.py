"""The supervisor's end of a connection: frames on an asyncio loop, by callback.

The loop must be a selector loop (main.py sees to it on Windows). Receiving keeps one registration with
the selector for the life of the connection; sending first tries without waiting.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ..errors import ConnectionLostError, ProtocolError
from ..protocol.framing import Frame, FrameReader, FrameState, Limits, frame_head

_JOIN_BYTES = 64 * 1024
_SEND_BUFFER_BYTES = (
    2**20
)  # so that a text's conditioning leaves in one go; systems allow what they allow
_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")  # not on Windows
_AT_ONCE = 64  # payloads that go to the system in one call with their header


class Channel:
    """Frames over a non-blocking stream socket, which it owns.

    `on_frame(frame)` is called for every frame, `on_close(error)` once: with None when the peer closed
    between frames, with a ConnectionLostError or ProtocolError otherwise.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_frame: Callable[[Frame], None],
        on_close: Callable[[Exception | None], None],
        *,
        limits: Limits | None = None,
        send_timeout_s: float = 60.0,
    ) -> None:
        self.sock = sock
        self.on_frame = on_frame
        self.on_close = on_close
        self.reader = FrameReader(limits)
        self.closed = False
        self._send_timeout_s = send_timeout_s
        self._send_lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None  # done when the socket takes bytes again
        self._inside = False  # a frame has been sent in part
        self._sending = 0  # calls of `send` that have not ended
        self._rest: Sequence[memoryview] = ()  # of a frame that `send_now` has begun
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._loop.add_reader(sock, self._on_readable)

    async def send(
        self, header: bytes, payloads: Sequence[memoryview] = (), fds: Sequence[int] = ()
    ) -> None:
        """Send one frame whole. Cancelled inside the frame, it closes: nothing may follow half a frame.

        Raises:
            ConnectionLostError: The peer is gone, or takes nothing for longer than the time-out.
        """
        head, payloads = _joined(frame_head(header), payloads)
        self._sending += 1
        try:
            async with self._send_lock:
                await self._send_pieces(head, payloads, fds)
        finally:
            self._sending -= 1

    def send_now(
        self, header: bytes, payloads: Sequence[memoryview] = ()
    ) -> Coroutine[Any, Any, None] | None:
        """Send one frame without waiting, where that goes; return what is left to await, if anything.

        It overtakes no frame whose sending has begun. What is returned raises as `send` does.
        """
        head, large = _joined(frame_head(header), payloads)
        if self._sending or self._rest or (large and not _HAS_SENDMSG):
            return self.send(header, payloads)
        try:
            count = self.sock.sendmsg((head, *large[:_AT_ONCE])) if large else self.sock.send(head)
        except OSError:  # full, or broken: `send` waits, or says so
            return self.send(header, payloads)
        if count == len(head) + sum(map(len, large)):
            return None
        self._rest = _after(count, (memoryview(head), *large))
        return self._send_rest()

    async def _send_rest(self) -> None:
        """Finish what `send_now` has begun, unless another sender has done so."""
        self._sending += 1
        try:
            async with self._send_lock:
                await self._send_pieces(b"", ())
        finally:
            self._sending -= 1

    async def _send_pieces(
        self, head: bytes, payloads: Sequence[memoryview], fds: Sequence[int] = ()
    ) -> None:
        rest, self._rest = self._rest, ()
        self._inside = bool(rest)
        try:
            for piece in rest:
                await self._send_all(piece)
            self._inside = False
            if fds:
                head = head[await self._send_fds(head, fds) :]
            for piece in self._send_first((memoryview(head), *payloads)):
                await self._send_all(piece)
        except (OSError, asyncio.TimeoutError) as error:
            lost = ConnectionLostError("The peer does not take its messages any more.")
            self.close(lost)
            raise lost from error
        except asyncio.CancelledError:
            if self._inside:
                self.close(ConnectionLostError("A message was given up while it was sent."))
            raise

    def pause(self) -> None:
        """Take no more bytes for now: the peer has too much under way."""
        if not self._paused and not self.closed:
            self._paused = True
            self._loop.remove_reader(self.sock)

    def resume(self) -> None:
        """Go on after `pause`."""
        if self._paused and not self.closed:
            self._paused = False
            self._loop.add_reader(self.sock, self._on_readable)

    def close(self, error: Exception | None = None) -> None:
        """Close the socket; `on_close` is called once."""
        if self.closed:
            return
        self.closed = True
        # What the loop still watches by the socket's number, it would watch in the next one of that number.
        self._loop.remove_reader(self.sock)
        self._loop.remove_writer(self.sock)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self.sock.close()
        self.on_close(error)

    def _on_readable(self) -> None:
        try:
            count = self.sock.recv_into(self.reader.buffer())
            if count == 0:
                inside = self.reader.close() is FrameState.TRUNCATED
                self.close(
                    ConnectionLostError("The peer died inside a message.") if inside else None
                )
                return
            self.reader.advance(count)
        except (BlockingIOError, InterruptedError):
            return
        except ProtocolError as error:
            self.close(error)
            return
        except OSError as error:
            self.close(ConnectionLostError(f"The connection broke ({error})."))
            return
        while not self.closed and (frame := self.reader.pop()) is not None:
            self.on_frame(frame)

    def _send_first(self, pieces: Sequence[memoryview]) -> Sequence[memoryview]:
        """Send what the socket takes of several pieces at once, which wakes the peer once; return the rest."""
        if len(pieces) == 1 or self.closed or not _HAS_SENDMSG:
            return pieces
        try:
            count = self.sock.sendmsg(pieces[: _AT_ONCE + 1])
        except (BlockingIOError, InterruptedError):
            return pieces
        self._inside = True
        return _after(count, pieces)

    async def _send_all(self, data: memoryview) -> None:
        while len(data):
            if self.closed:
                raise OSError("closed")
            try:
                data = data[self.sock.send(data) :]
                self._inside = True
            except (BlockingIOError, InterruptedError):
                await self._writable()

    async def _send_fds(self, head: bytes, fds: Sequence[int]) -> int:
        while True:
            try:
                count = socket.send_fds(self.sock, [head], list(fds))
            except (BlockingIOError, InterruptedError):
                await self._writable()
            else:
                self._inside = True
                return count

    async def _writable(self) -> None:
        self._waiter = waiter = self._loop.create_future()
        self._loop.add_writer(self.sock, _finish, waiter)
        try:
            await asyncio.wait_for(waiter, self._send_timeout_s)
        finally:
            self._waiter = None
            if not self.closed:
                self._loop.remove_writer(self.sock)


def _joined(head: bytes, payloads: Sequence[memoryview]) -> tuple[bytes, Sequence[memoryview]]:
    """Return a frame's head with its payloads behind it, where they are small, and the others."""
    if payloads and sum(len(p) for p in payloads) <= _JOIN_BYTES:
        return b"".join((head, *payloads)), ()
    return head, payloads


def _after(count: int, pieces: Sequence[memoryview]) -> Sequence[memoryview]:
    """Return what comes after the first `count` bytes of several pieces; never nothing at all."""
    rest = []
    for piece in pieces:
        rest.append(piece[count:])
        count = max(0, count - len(piece))
    return rest


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
