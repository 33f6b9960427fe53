"""The port for monitoring: /metrics, /status and /health over HTTP, read-only, on loopback, off by default.

A browser on this machine can be made to send requests here by any web page. So only GET and HEAD are
answered, nothing that is asked changes anything, the Host header must be ours (a page that has made its
own name resolve to 127.0.0.1 sends that name), and a request with an Origin is refused whatever it says.
One request per connection; its head is bounded in size and time. Errors name nothing of the daemon's.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from ...utils.log import get_logger
from ..supervisor import Supervisor
from ..transport.endpoints import listen_tcp
from . import exposition
from .gauges import gauges
from .metric_families import FAMILIES
from .status import snapshot

log = get_logger("http")
MAX_HEAD_BYTES = 8 * 1024
HEAD_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0  # to take a status and to hand it over
LINGER_S = 1.0
MAX_CONNECTIONS = 32
JSON = "application/json"
_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(r"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.[01]")
_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t -~\x80-\xff]*)")
_FIXED_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. Header names are in lower case; each came once."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """What is sent back."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, with_body: bool) -> bytes:
        """Return the bytes of the whole response, or of its head."""
        headers = {
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            **_FIXED_HEADERS,
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode("ascii") + _END
        return head + self.body if with_body else head


class RefusedError(Exception):
    """A request that is not answered. Carries nothing of the request or the daemon."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class HttpPort:
    """The listening port.

    Args:
        daemon: Whom the answers are about.
        host: A loopback address.
        port: A free port; 0 takes one.
        head_timeout_s: A request's head must have come within this.
    """

    def __init__(
        self, daemon: Supervisor, host: str, port: int, head_timeout_s: float = HEAD_TIMEOUT_S
    ) -> None:
        self.daemon = daemon
        self.port = port
        self._head_timeout_s = head_timeout_s
        self._host = host
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._pages: dict[str, Callable[[], Awaitable[Response]]] = {
            "/metrics": self._metrics,
            "/status": self._status,
            "/health": self._health,
        }

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: The address cannot be used.
        """
        listener = listen_tcp(self._host, self.port)
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(
            self._on_connection, sock=listener, limit=MAX_HEAD_BYTES
        )

    async def close(self) -> None:
        """Stop listening, and end what is under way."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def names(self) -> frozenset[str]:
        """What a Host header may say."""
        own = f"[{self._host}]" if ":" in self._host else self._host
        return frozenset(f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]", own))

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and end the connection whatever becomes of it."""
        try:
            answer = await self._exchange(reader)
            await asyncio.wait_for(_send(writer, answer), ANSWER_TIMEOUT_S)
            await asyncio.wait_for(_read_away(reader), LINGER_S)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            log.debug("a connection ended early: %s", type(error).__name__)
        except Exception:  # boundary: a fault here must not reach the daemon's real work
            log.exception("a request at the monitoring port failed by our fault")
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader) -> bytes:
        """Read a request; return the bytes of its response."""
        try:
            if len(self._connections) > MAX_CONNECTIONS:
                raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE)
            request = parse_head(await self._read_head(reader))
        except RefusedError as error:
            return _error(error.status).encode(with_body=True)
        response = await self._respond(request)
        return response.encode(with_body=request.method != "HEAD")

    async def _read_head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await asyncio.wait_for(reader.readuntil(_END), self._head_timeout_s)
        except asyncio.LimitOverrunError:
            raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
        except asyncio.TimeoutError:
            raise RefusedError(HTTPStatus.REQUEST_TIMEOUT) from None

    async def _respond(self, request: Request) -> Response:
        refusal = self._why_not(request)
        if refusal is not None:
            return _error(refusal)
        try:
            page = self._pages[request.path.partition("?")[0]]
            return await asyncio.wait_for(page(), ANSWER_TIMEOUT_S)
        except asyncio.TimeoutError:
            return _error(HTTPStatus.SERVICE_UNAVAILABLE)
        except Exception:  # boundary: whoever asks gets a word, and the log has the trace
            log.exception("a page of the monitoring port failed by our fault")
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _why_not(self, request: Request) -> HTTPStatus | None:
        """Return why a request is refused; None when it is to be answered."""
        if "host" not in request.headers:
            return HTTPStatus.BAD_REQUEST
        if request.headers["host"].lower() not in self.names or "origin" in request.headers:
            return HTTPStatus.FORBIDDEN
        if request.method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED
        if request.path.partition("?")[0] not in self._pages:
            return HTTPStatus.NOT_FOUND
        return None

    async def _metrics(self) -> Response:
        samples = [*self.daemon.metrics.samples(), *gauges(self.daemon)]
        text = exposition.render(FAMILIES, samples)
        return Response(HTTPStatus.OK, exposition.CONTENT_TYPE, text.encode("utf-8", "replace"))

    async def _status(self) -> Response:
        return _json(HTTPStatus.OK, await snapshot(self.daemon))

    async def _health(self) -> Response:
        if self.daemon.draining:
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"state": "draining"})
        return _json(HTTPStatus.OK, {"state": "running"})


def parse_head(head: bytes) -> Request:
    """Return the request whose first bytes, up to and with the empty line, are `head`.

    Raises:
        RefusedError: It is not the head of an HTTP/1 request, or names two hosts.
    """
    first, *others = head.removesuffix(_END).decode("latin-1").split("\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise RefusedError(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    for other in others:
        header = _HEADER.fullmatch(other)
        if header is None:
            raise RefusedError(HTTPStatus.BAD_REQUEST)
        name, value = header.group(1).lower(), header.group(2).rstrip(" \t")
        if name == "host" and name in headers:
            raise RefusedError(HTTPStatus.BAD_REQUEST)
        headers[name] = value
    return Request(line.group(1), line.group(2), headers)


async def _send(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.transport.set_write_buffer_limits(0)  # drain() then waits until all of it is gone
    writer.write(answer)
    await writer.drain()
    writer.write_eof()


async def _read_away(reader: asyncio.StreamReader) -> None:
    """Take what else was sent: closing on unread bytes would reset the connection, answer and all."""
    for _ in range(8):
        if not await reader.read(MAX_HEAD_BYTES):
            return


def _error(status: HTTPStatus) -> Response:
    allow = {"Allow": "GET, HEAD"} if status is HTTPStatus.METHOD_NOT_ALLOWED else {}
    return Response(status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode(), allow)


def _json(status: HTTPStatus, content: object) -> Response:
    return Response(status, JSON, json.dumps(content).encode())
