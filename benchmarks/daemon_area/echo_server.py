"""The yardstick of a control round trip: a process that decodes a JSON message and sends it back.

It is what any asyncio server has to do at least. `streams`: with asyncio's own streams, as such servers
are usually written. `callbacks`: with a bare reader callback on the loop, which is the least that is
possible, and as the daemon's own channel receives.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

LENGTH_BYTES = 4


class EchoMessage(msgspec.Struct):
    """Some 100 bytes of JSON."""

    id: int
    type: str = "echo"
    text: str = "about as much as a request without tensors carries"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EchoMessage).decode


class EchoClient:
    """A blocking client of an echo server."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._number = 0

    def call(self) -> None:
        """Send a message and wait until it has come back."""
        self._number += 1
        self._sock.sendall(_frame(EchoMessage(self._number)))
        data = self._sock.recv(65536)
        while len(data) < LENGTH_BYTES or len(data) < LENGTH_BYTES + _length(data):
            data += self._sock.recv(65536)
        if _decode(data[LENGTH_BYTES:]).id != self._number:
            raise ValueError("The echo is not of the message that was sent.")


def main(arguments: Sequence[str]) -> int:
    """Serve one connection, which is inherited: `streams|callbacks DESCRIPTOR`."""
    kind, descriptor = arguments
    sock = socket.socket(fileno=int(descriptor))
    sock.setblocking(False)
    asyncio.run(_SERVERS[kind](sock))
    return 0


async def _serve_streams(sock: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        while True:
            header = await reader.readexactly(LENGTH_BYTES)
            message = _decode(await reader.readexactly(_length(header)))
            writer.write(_frame(message))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serve_callbacks(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    buffer = bytearray()

    def on_readable() -> None:
        data = sock.recv(65536)
        if not data:
            loop.remove_reader(sock)
            ended.set_result(None)
        buffer.extend(data)
        while len(buffer) >= LENGTH_BYTES and len(buffer) >= LENGTH_BYTES + _length(buffer):
            end = LENGTH_BYTES + _length(buffer)
            message = _decode(buffer[LENGTH_BYTES:end])
            del buffer[:end]
            sock.send(_frame(message))

    loop.add_reader(sock, on_readable)
    await ended


_SERVERS: dict[str, Callable[[socket.socket], Coroutine[Any, Any, None]]] = {
    "streams": _serve_streams,
    "callbacks": _serve_callbacks,
}


def _frame(message: EchoMessage) -> bytes:
    body = _encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def _length(data: bytes | bytearray) -> int:
    return int.from_bytes(data[:LENGTH_BYTES], "big")
