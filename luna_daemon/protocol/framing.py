"""Bytes ⇄ frames, without a socket.

A frame is a 4-byte big-endian length, a JSON header of exactly that length, and the raw bytes of the
segments that the header lists, in their order. Whoever has bytes asks `FrameReader.buffer()` where to
put them and calls `advance(n)`: segments are received straight into their own memory, and a peer that
dies in the middle of a frame is a state (`FrameState.TRUNCATED`), not an accident.

Every length is checked against `Limits` before memory is taken for it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import cast

import msgspec

from ..errors import ProtocolError
from .segments import Segment, check_segment

LENGTH_BYTES = 4
_SCRATCH_BYTES = 64 * 1024
_PIECES = 64  # that the system is asked to fill at once
Buffer = bytearray | memoryview | bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may make us hold for one frame."""

    header_bytes: int = 8 * 2**20
    segments: int = 4096
    inline_bytes: int = 4 * 2**30


# Before a peer has shown who it is, a hello fits and nothing else does.
HELLO_LIMITS = Limits(header_bytes=16 * 1024, segments=0, inline_bytes=0)


class FrameState(enum.Enum):
    """Where the reader stands."""

    BETWEEN = "between frames"
    LENGTH = "in a frame's length"
    HEADER = "in a frame's header"
    SEGMENTS = "in a frame's segments"
    CLOSED = "closed between frames"
    TRUNCATED = "closed inside a frame"


@dataclass(frozen=True, slots=True)
class Frame:
    """One message's bytes: its JSON header and the inline segments, each as writable memory."""

    header: bytes
    payloads: tuple[memoryview, ...] = ()


class _Listing(msgspec.Struct, frozen=True):
    segments: tuple[Segment, ...] = ()


_listing = msgspec.json.Decoder(_Listing)


def frame_head(header: bytes, limits: Limits | None = None) -> bytes:
    """Return length and header as they go on the wire; the payloads follow.

    Raises:
        ProtocolError: The header is larger than a receiver accepts.
    """
    limits = limits or Limits()
    if len(header) > limits.header_bytes:
        raise ProtocolError(
            f"A message header of {len(header)} bytes is over the limit of {limits.header_bytes}."
        )
    return len(header).to_bytes(LENGTH_BYTES, "big") + header


class FrameReader:
    """Turns received bytes into frames.

    Use: `view = reader.buffer()`; receive up to `len(view)` bytes into it; `reader.advance(n)`; take
    what `reader.pop()` gives until it gives None. At end of file call `close()` and look at `state`.
    Who can receive into several pieces of memory at once takes `buffers()` instead of `buffer()`.

    Args:
        limits: What a peer may make us hold.
        first_bytes: How much to take at once while it is not known what comes. What comes with a header
            is copied into its segment; what comes later is received there.
    """

    def __init__(self, limits: Limits | None = None, first_bytes: int = _SCRATCH_BYTES) -> None:
        self.limits = limits or Limits()
        self._first_bytes = first_bytes
        self.state = FrameState.BETWEEN
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._filled = 0  # bytes of the scratch buffer that hold unread data
        self._header: bytes | None = None
        self._payloads: list[memoryview] = []
        self._segment = 0  # index of the payload being filled
        self._segment_filled = 0
        self._ready: list[Frame] = []

    def buffer(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        if self._segment < len(self._payloads):
            return self._payloads[self._segment][self._segment_filled :]
        end = self._first_bytes if self._filled < self._first_bytes else None
        return memoryview(self._scratch)[self._filled : end]

    def buffers(self) -> list[memoryview]:
        """Where the next bytes belong, one piece after the other: to the end of the frame's segments."""
        rest = self._payloads[self._segment + 1 : self._segment + _PIECES]
        return [self.buffer(), *(piece for piece in rest if len(piece))]

    def advance(self, count: int) -> None:
        """Tell that `count` bytes were put into `buffer()`, or into `buffers()`.

        Raises:
            ProtocolError: The bytes are not our protocol or are over a limit; close the connection.
        """
        if self._segment == len(self._payloads):
            self._filled += count
        else:
            self._fill_segments(count)
        self._parse()

    def pop(self) -> Frame | None:
        """Return the next whole frame, or None."""
        return self._ready.pop(0) if self._ready else None

    def close(self) -> FrameState:
        """Tell that no more bytes will come; return CLOSED or TRUNCATED."""
        whole = self.state in (FrameState.BETWEEN, FrameState.CLOSED)
        self.state = FrameState.CLOSED if whole else FrameState.TRUNCATED
        return self.state

    def _parse(self) -> None:
        start = 0
        while True:
            if self._header is None:
                if start == self._filled:
                    break
                used = self._take_header(start)
                if used == start:
                    break
                start = used
            if self._payloads:
                start = self._take_segment_bytes(start)
                if self._segment < len(self._payloads):
                    break
            self._ready.append(Frame(cast(bytes, self._header), tuple(self._payloads)))
            self._header, self._payloads, self._segment = None, [], 0
        self._keep_from(start)

    def _take_header(self, start: int) -> int:
        """Read length and header from the scratch buffer; return where the rest begins."""
        available = self._filled - start
        if available < LENGTH_BYTES:
            return start
        first = bytes(self._scratch[start : start + LENGTH_BYTES])
        length = int.from_bytes(first, "big")
        if length > self.limits.header_bytes:
            raise self._too_long(length, first)
        end = start + LENGTH_BYTES + length
        if self._filled < end:
            self._make_room(start, LENGTH_BYTES + length)
            return start
        self._header = bytes(self._scratch[start + LENGTH_BYTES : end])
        self._payloads = [memoryview(bytearray(size)) for size in self._inline_sizes(self._header)]
        self._segment = self._segment_filled = 0
        return end

    def _fill_segments(self, count: int) -> None:
        """Note bytes that were received straight into segments."""
        self._segment_filled += count
        while self._segment_filled > len(self._payloads[self._segment]):
            self._segment_filled -= len(self._payloads[self._segment])
            self._segment += 1

    def _take_segment_bytes(self, start: int) -> int:
        """Move bytes that came together with the header into their segments."""
        received = memoryview(self._scratch)
        while self._segment < len(self._payloads):
            payload = self._payloads[self._segment]
            count = min(len(payload) - self._segment_filled, self._filled - start)
            if count:  # mostly all of a segment was received straight into it
                payload[self._segment_filled : self._segment_filled + count] = received[
                    start : start + count
                ]
                start += count
                self._segment_filled += count
            if self._segment_filled < len(payload):
                break
            self._segment += 1
            self._segment_filled = 0
        return start

    def _too_long(self, length: int, first: bytes) -> ProtocolError:
        if other := _other_protocol(first):
            return ProtocolError(
                "This port speaks Luna's own protocol, and the peer speaks "
                f"{other}. The connection is closed."
            )
        return ProtocolError(
            f"A message header of {length} bytes is over the limit of {self.limits.header_bytes}."
        )

    def _inline_sizes(self, header: bytes) -> list[int]:
        try:
            segments = _listing.decode(header).segments
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"A message header cannot be read: {error}") from error
        if not segments:
            return []
        if len(segments) > self.limits.segments:
            raise ProtocolError(
                f"A message lists {len(segments)} tensors; at most {self.limits.segments} are accepted."
            )
        for segment in segments:
            check_segment(segment)
        sizes = [segment.nbytes for segment in segments if segment.slot is None]
        if sum(sizes) > self.limits.inline_bytes:
            raise ProtocolError(
                f"A message carries {sum(sizes)} bytes; at most {self.limits.inline_bytes} are accepted."
            )
        return sizes

    def _make_room(self, start: int, frame_head_bytes: int) -> None:
        """Let the scratch buffer hold a header that is longer than it, within the limit."""
        if frame_head_bytes > len(self._scratch) - start:
            rest = self._scratch[start : self._filled]
            room = bytearray(start + max(frame_head_bytes, _SCRATCH_BYTES))
            room[start : start + len(rest)] = rest
            self._scratch = room

    def _keep_from(self, start: int) -> None:
        """Drop what has been read from the scratch buffer and name the state."""
        rest = self._filled - start
        if start:
            if len(self._scratch) > _SCRATCH_BYTES and rest <= _SCRATCH_BYTES:
                fresh = bytearray(_SCRATCH_BYTES)
                fresh[:rest] = self._scratch[start : self._filled]
                self._scratch = fresh
            elif rest:
                self._scratch[:rest] = self._scratch[start : self._filled]
            self._filled = rest
        if self._header is not None:
            self.state = FrameState.SEGMENTS
        elif not rest:
            self.state = FrameState.BETWEEN
        else:
            self.state = FrameState.LENGTH if rest < LENGTH_BYTES else FrameState.HEADER


_HTTP = (b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"PATC", b"CONN", b"TRAC", b"PRI ")


def _other_protocol(first: bytes) -> str:
    """Return which well-known protocol begins with these four bytes; "" for none."""
    if first in _HTTP:
        return "HTTP"
    if first.startswith(b"\x16\x03"):  # a handshake record; its version and length vary
        return "TLS"
    return "SSH" if first == b"SSH-" else ""
