"""Message ⇄ frame. A decoder knows one direction's messages and refuses everything else."""

from __future__ import annotations

from typing import Generic, TypeVar, get_args

import msgspec

from ..errors import (
    BY_CODE,
    BadRequestError,
    DaemonError,
    IncompatibleError,
    InternalError,
    ProtocolError,
    RejectedError,
)
from .framing import Frame
from .messages import (
    PROTOCOL_VERSIONS,
    Failure,
    Message,
    Request,
    RequestId,
    ToClient,
    ToDaemon,
)
from .segments import Segment
from .worker_messages import FromWorker, ToWorker

M = TypeVar("M")
_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """Return the message's JSON header.

    Raises:
        BadRequestError: A value in it is of no kind that a message can carry.
    """
    try:
        return _encoder.encode(message)
    except (TypeError, ValueError) as error:  # ValueError: half of a surrogate pair in a text
        raise BadRequestError(f"A value cannot be sent to another process: {error}.") from error


class Decoder(Generic[M]):
    """Reads the headers of one direction."""

    def __init__(self, kind: object) -> None:
        self._decoder: msgspec.json.Decoder[M] = msgspec.json.Decoder(kind)

    def decode(self, frame: Frame) -> M:
        """Return the frame's message.

        Raises:
            ProtocolError: Unknown type or field, missing field, or a value out of its range.
        """
        try:
            return self._decoder.decode(frame.header)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"A message cannot be understood: {error}.") from error


class RequestHead(msgspec.Struct, frozen=True):
    """The part of a request that says which one it is."""

    type: str
    id: RequestId


_head = msgspec.json.Decoder(RequestHead)
_REQUEST_TYPES = {
    kind.__struct_config__.tag for kind in get_args(ToDaemon) if issubclass(kind, Request)
}


def request_head_of(frame: Frame) -> RequestHead | None:
    """Say which request it is whose other fields make no sense; None when it is no request."""
    try:
        head = _head.decode(frame.header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return head if head.type in _REQUEST_TYPES else None


to_daemon: Decoder[ToDaemon] = Decoder(ToDaemon)
to_client: Decoder[ToClient] = Decoder(ToClient)
to_worker: Decoder[ToWorker] = Decoder(ToWorker)
from_worker: Decoder[FromWorker] = Decoder(FromWorker)


def replace_segments(message: M, segments: tuple[Segment, ...]) -> M:
    """Return the message with other segments."""
    return msgspec.structs.replace(message, segments=segments)  # type: ignore[type-var]


def failure(error: DaemonError, request_id: int) -> Failure:
    """Return the reply that tells a client about an error."""
    code = error.code if error.code in BY_CODE else InternalError.code
    return Failure(
        id=request_id,
        code=code,
        message=error.message,
        hint=error.hint,
        retryable=error.retryable,
        retry_after_s=getattr(error, "retry_after_s", 0.0),
    )


def error_of(reply: Failure) -> DaemonError:
    """Return the error that a `Failure` tells of; an unknown code becomes an InternalError."""
    kind = BY_CODE.get(reply.code, InternalError)
    if kind is RejectedError:
        return RejectedError(reply.message, reply.hint, reply.retry_after_s)
    return kind(reply.message, reply.hint)


def agree_version(theirs: tuple[int, int], ours: tuple[int, int] = PROTOCOL_VERSIONS) -> int:
    """Return the highest protocol version that both ends speak.

    Raises:
        IncompatibleError: There is none.
    """
    version = min(theirs[1], ours[1])
    if version < max(theirs[0], ours[0]):
        raise IncompatibleError(
            f"The client speaks protocol versions {theirs[0]} to {theirs[1]}, the daemon {ours[0]} to {ours[1]}.",
            "Update the older of the two and restart it.",
        )
    return version
