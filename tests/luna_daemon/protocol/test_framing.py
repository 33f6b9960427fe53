from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.luna_daemon.errors import ProtocolError
from luna_collection.luna_daemon.protocol.framing import (
    HELLO_LIMITS,
    Frame,
    FrameReader,
    FrameState,
    Limits,
    frame_head,
)

SCRATCH_BYTES = 64 * 1024
SMALL = Limits(header_bytes=2048, segments=4, inline_bytes=8192)


def segment(nbytes: int, **changes: object) -> dict[str, object]:
    return {"dtype": "uint8", "shape": [nbytes], "order": [0], "nbytes": nbytes, **changes}


def header(*segments: dict[str, object], **fields: object) -> bytes:
    return json.dumps({"type": "ping", **fields, "segments": list(segments)}).encode()


def wire(frame: tuple[bytes, Sequence[bytes]]) -> bytes:
    head, payloads = frame
    return len(head).to_bytes(4, "big") + head + b"".join(payloads)


def as_frame(*payloads: bytes, **fields: object) -> tuple[bytes, tuple[bytes, ...]]:
    return header(*(segment(len(p)) for p in payloads), **fields), payloads


def feed(reader: FrameReader, data: bytes) -> None:
    """Give the reader the data as a socket would: as much as fits its buffer, again and again."""
    while data:
        buffer = reader.buffer()
        assert len(buffer) > 0
        part, data = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(part)] = part
        reader.advance(len(part))


def taken(reader: FrameReader) -> list[tuple[bytes, tuple[bytes, ...]]]:
    frames: list[Frame] = []
    while (frame := reader.pop()) is not None:
        frames.append(frame)
    return [(f.header, tuple(bytes(p) for p in f.payloads)) for f in frames]


def read(
    parts: Iterable[bytes], limits: Limits | None = None
) -> list[tuple[bytes, tuple[bytes, ...]]]:
    reader = FrameReader(limits)
    for part in parts:
        feed(reader, part)
    return taken(reader)


@contextmanager
def at_most(nbytes: int) -> Iterator[None]:
    """Check that no more memory than this is taken inside."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < nbytes


FRAMES = {
    "no fields": (b"{}", ()),
    "no segments": as_frame(id=1),
    "one segment": as_frame(b"abc"),
    "two segments": as_frame(b"abc", b"defgh"),
    "three segments": as_frame(b"a", b"bc", b"def"),
    "one empty segment": as_frame(b""),
    "empty segments around a full one": as_frame(b"", b"abc", b""),
    "empty segments at the end": as_frame(b"abc", b"", b""),
    "segment in shared memory": (
        header(segment(4096, slot={"arena": 1, "offset": 64, "generation": 7}), segment(2)),
        (b"xy",),
    ),
    "segment longer than the scratch buffer": as_frame(bytes(range(256)) * 300),
    "header longer than the scratch buffer": as_frame(b"abc", note="n" * (SCRATCH_BYTES + 1)),
    "header that fills the scratch buffer": (b"{" + b" " * (SCRATCH_BYTES - 6) + b"}", ()),
    "header one byte too long for the scratch buffer": (
        b"{" + b" " * (SCRATCH_BYTES - 5) + b"}",
        (),
    ),
}
every_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())


@every_frame
def test_bytes_become_the_frame(frame):
    assert read([wire(frame)]) == [frame]


@every_frame
def test_a_frame_becomes_the_bytes(frame):
    head, payloads = frame
    assert frame_head(head) + b"".join(payloads) == wire(frame)


@every_frame
def test_a_frame_may_come_one_byte_at_a_time(frame):
    assert read(bytes([b]) for b in wire(frame)) == [frame]


@every_frame
def test_a_frame_follows_another_in_the_same_read(frame):
    first = as_frame(b"first", id=1)
    assert read([wire(first) + wire(frame) + wire(first)]) == [first, frame, first]


def test_many_frames_come_out_of_one_read_in_their_order():
    frames = [as_frame(bytes([n]) * n, id=n) for n in range(50)]
    assert read([b"".join(map(wire, frames))]) == frames


def test_a_long_header_right_behind_a_short_frame_is_read():
    frames = [as_frame(b"x"), as_frame(b"abc", note="n" * (3 * SCRATCH_BYTES)), as_frame(b"y")]
    assert read([b"".join(map(wire, frames))]) == frames


def test_the_memory_of_a_payload_can_be_written():
    reader = FrameReader()
    feed(reader, wire(as_frame(b"abc")))
    payload = reader.pop().payloads[0]
    payload[0] = ord("z")
    assert bytes(payload) == b"zbc"


def test_payloads_of_frames_share_no_memory():
    reader = FrameReader()
    feed(reader, wire(as_frame(b"aaa")) + wire(as_frame(b"bbb")))
    first, second = reader.pop(), reader.pop()
    first.payloads[0][:] = b"zzz"
    assert bytes(second.payloads[0]) == b"bbb"


def test_a_segment_is_received_straight_into_its_own_memory():
    reader = FrameReader()
    feed(reader, wire((header(segment(200_000)), ())))
    assert len(reader.buffer()) == 200_000


@pytest.mark.parametrize("most", [1, 7, 1000, 10**6])
def test_several_segments_can_be_received_at_once(most: int):
    frames = [as_frame(b"a" * 700, b"", b"b" * 3, b"c" * 900, b""), as_frame(b"d" * 50)]
    reader = FrameReader()
    data = b"".join(map(wire, frames))
    while data:
        room = most
        for buffer in reader.buffers():
            part = data[: min(room, len(buffer))]
            buffer[: len(part)] = part
            data, room = data[len(part) :], room - len(part)
        reader.advance(most - room)
    assert taken(reader) == frames
    assert reader.close() is FrameState.CLOSED


def test_the_segments_after_the_one_that_is_filled_are_offered_too():
    reader = FrameReader()
    feed(reader, wire((header(segment(200_000), segment(0), segment(7)), ())))
    assert [len(buffer) for buffer in reader.buffers()] == [200_000, 7]


@pytest.mark.parametrize("first_bytes", [1, 4, 50, 4096])
def test_frames_are_read_however_little_is_taken_at_first(first_bytes: int):
    frames = [
        as_frame(b"a" * 700, b"", b"b" * 9000),
        as_frame(note="n" * (2 * SCRATCH_BYTES)),
        as_frame(b"c"),
    ]
    reader = FrameReader(first_bytes=first_bytes)
    assert len(reader.buffer()) == first_bytes
    feed(reader, b"".join(map(wire, frames)))
    assert taken(reader) == frames
    assert len(reader.buffer()) == first_bytes


def test_no_frame_is_there_before_its_last_byte():
    reader = FrameReader()
    feed(reader, wire(FRAMES["three segments"])[:-1])
    assert reader.pop() is None


CUT = wire(as_frame(b"abc", b"", b"defgh", id=3))


@pytest.mark.parametrize("length", range(1, len(CUT)))
def test_an_end_inside_a_frame_is_a_truncation_and_gives_no_frame(length):
    reader = FrameReader()
    feed(reader, CUT[:length])
    assert (reader.close(), reader.state, taken(reader)) == (
        FrameState.TRUNCATED,
        FrameState.TRUNCATED,
        [],
    )


@pytest.mark.parametrize("data", [b"", CUT, CUT * 3], ids=["no frame", "one frame", "three frames"])
def test_an_end_between_frames_is_a_close(data):
    reader = FrameReader()
    feed(reader, data)
    assert (reader.close(), reader.state) == (FrameState.CLOSED, FrameState.CLOSED)


def test_whole_frames_before_a_truncation_are_kept():
    reader = FrameReader()
    feed(reader, CUT + CUT[:9])
    reader.close()
    assert taken(reader) == [as_frame(b"abc", b"", b"defgh", id=3)]


def test_closing_twice_says_the_same():
    reader = FrameReader()
    feed(reader, CUT[:9])
    assert [reader.close(), reader.close()] == [FrameState.TRUNCATED, FrameState.TRUNCATED]


HEAD_BYTES = CUT.index(b"abcdefgh")


@pytest.mark.parametrize(
    ("length", "state"),
    [
        (0, FrameState.BETWEEN),
        (1, FrameState.LENGTH),
        (3, FrameState.LENGTH),
        (4, FrameState.HEADER),
        (HEAD_BYTES - 1, FrameState.HEADER),
        (HEAD_BYTES, FrameState.SEGMENTS),
        (len(CUT) - 1, FrameState.SEGMENTS),
        (len(CUT), FrameState.BETWEEN),
        (len(CUT) + 2, FrameState.LENGTH),
    ],
    ids=str,
)
def test_the_state_says_where_the_reader_stands(length, state):
    reader = FrameReader()
    feed(reader, (CUT * 2)[:length])
    assert reader.state is state


payload_lists = st.lists(st.binary(max_size=40), max_size=4)
sequences = st.lists(
    st.builds(
        lambda payloads, note: as_frame(*payloads, note=note), payload_lists, st.text(max_size=30)
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=150)
@given(sequences, st.data())
def test_any_split_of_the_bytes_gives_the_same_frames(frames, data):
    stream = b"".join(map(wire, frames))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(parts) == frames


def survives(data: bytes) -> None:
    reader = FrameReader(SMALL)
    try:
        feed(reader, data)
    except ProtocolError:
        return
    reader.close()


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_protocol_errors(data):
    survives(data)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_a_header_of_random_bytes_raises_nothing_but_protocol_errors(data):
    survives(len(data).to_bytes(4, "big") + data)


@settings(deadline=None, max_examples=200)
@given(
    st.fixed_dictionaries(
        {"segments": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "dtype": st.sampled_from(["uint8", "float32", "", "object"]) | st.none(),
                    "shape": st.lists(st.integers(-2, 2**70), max_size=9),
                    "order": st.lists(st.integers(-1, 9), max_size=9),
                    "nbytes": st.integers(-1, 2**70),
                    "slot": st.none() | st.dictionaries(st.text(max_size=6), st.integers()),
                },
            ),
            max_size=6,
        )}
    )
)  # fmt: skip
def test_random_segments_raise_nothing_but_protocol_errors(table):
    survives(wire((json.dumps(table).encode(), ())))


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=4, max_size=100), st.integers(0, 2**32 - 1))
def test_random_bytes_never_take_memory_beyond_the_limits(data, length):
    with at_most(2 * SCRATCH_BYTES + SMALL.header_bytes + SMALL.inline_bytes + 50_000):
        survives(length.to_bytes(4, "big") + data)


TERA = 2**40
REFUSED = {
    "header too long": (b"\x00\x00\x08\x01" + b" " * 100, "header of 2049 bytes is over the limit of 2048"),
    "too many segments": (wire((header(*[segment(0)] * 5), ())), "lists 5 tensors; at most 4"),
    "one segment too large": (wire((header(segment(8193)), ())), "carries 8193 bytes; at most 8192"),
    "segments too large together": (
        wire((header(segment(5000), segment(5000)), ())),
        "carries 10000 bytes; at most 8192",
    ),
    "a terabyte": (wire((header(segment(TERA)), ())), f"carries {TERA} bytes"),
    "unknown element type": (wire((header(segment(4, dtype="complex64")), ())), "'complex64', which cannot be sent"),
    "long unknown element type": (wire((header(segment(4, dtype="x" * 500)), ())), f"'{'x' * 40}', which"),
    "byte count too small": (wire((header(segment(3, shape=[4])), ())), "does not have 3 bytes"),
    "byte count too large": (wire((header(segment(5, shape=[4])), ())), "does not have 5 bytes"),
    "byte count of another element type": (
        wire((header(segment(4, dtype="float64")), ())),
        "type float64 does not have 4 bytes",
    ),
    "byte count of nothing": (wire((header(segment(1, shape=[0])), ())), "does not have 1 bytes"),
    "shape whose product overflows to the byte count": (
        wire((header(segment(0, shape=[2**32, 2**32], order=[0, 1])), ())),
        "larger than any memory",
    ),
    "shape whose byte count overflows": (
        wire((header(segment(0, dtype="float32", shape=[2**31, 2**31], order=[0, 1])), ())),
        "larger than any memory",
    ),
    **{
        f"empty shape that overflows {where}": (
            wire((header(segment(0, shape=shape, order=list(range(len(shape))))), ())),
            "larger than any memory",
        )
        for where, shape in {
            "before the zero": [2**48, 2**48, 0],
            "behind the zero": [0, 2**48, 2**48],
            "around the zero": [2**32, 0, 2**32],
            "in many dimensions": [2**48] * 7 + [0],
        }.items()
    },
    "negative size": (wire((header(segment(-1)), ())), "header cannot be read"),
    "size over the limit of integers": (wire((header(segment(2**48 + 1)), ())), "header cannot be read"),
    "two negative sizes": (
        wire((header(segment(4, shape=[-2, -2], order=[0, 1])), ())),
        "header cannot be read",
    ),
    "too many dimensions": (
        wire((header(segment(1, shape=[1] * 9, order=list(range(9)))), ())),
        "9 dimensions; at most 8",
    ),
    "order too short": (wire((header(segment(4, shape=[2, 2], order=[0])), ())), "not a permutation"),
    "order with a dimension twice": (
        wire((header(segment(4, shape=[2, 2], order=[0, 0])), ())),
        "not a permutation",
    ),
    "order that names no dimension": (
        wire((header(segment(4, shape=[2, 2], order=[1, 2])), ())),
        "not a permutation",
    ),
    "segment with an unknown field": (wire((header(segment(4, offset=0)), ())), "header cannot be read"),
    "segment without a type": (wire((json.dumps({"segments": [{"shape": [1]}]}).encode(), ())), "cannot be read"),
    "forged slot": (
        wire((header(segment(4, slot={"arena": 1, "offset": -64, "generation": 1})), ())),
        "header cannot be read",
    ),
    "damaged segment in shared memory": (
        wire((header(segment(5, shape=[4], slot={"arena": 1, "offset": 0, "generation": 1})), ())),
        "does not have 5 bytes",
    ),
    "empty header": (b"\x00\x00\x00\x00", "header cannot be read"),
    "header that is no JSON": (wire((b"pong", ())), "header cannot be read"),
    "header that is no object": (wire((b"[1]", ())), "header cannot be read"),
    "deeply nested header": (wire((b'{"a":' + b"[" * 2000, ())), "header cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_before_memory_is_taken_for_it(data, sentence):
    with at_most(3 * SCRATCH_BYTES), pytest.raises(ProtocolError) as refused:
        read([data], SMALL)
    assert sentence in refused.value.message


def test_a_terabyte_is_refused_by_the_limits_of_a_session():
    with pytest.raises(ProtocolError, match="at most 4294967296 are accepted"):
        read([wire((header(segment(TERA)), ()))])


def test_a_segment_in_shared_memory_does_not_count_as_inline():
    slot = {"arena": 1, "offset": 0, "generation": 1}
    frame = (header(segment(TERA, slot=slot)), ())
    assert read([wire(frame)], SMALL) == [frame]


@pytest.mark.parametrize(
    "frame",
    [
        (b"{" + b" " * 2046 + b"}", ()),
        (header(*[segment(0)] * 4), (b"",) * 4),
        as_frame(bytes(8192)),
    ],
    ids=["header", "number of segments", "bytes"],
)
def test_what_just_fits_a_limit_is_accepted(frame):
    assert read([wire(frame)], SMALL) == [frame]


def test_a_header_that_no_receiver_accepts_is_not_sent():
    with pytest.raises(ProtocolError, match="header of 2049 bytes is over the limit of 2048"):
        frame_head(b" " * 2049, SMALL)


def test_a_header_of_a_session_may_have_eight_megabytes():
    with pytest.raises(ProtocolError, match="over the limit of 8388608"):
        frame_head(bytes(8 * 2**20 + 1))
    assert len(frame_head(bytes(8 * 2**20))) == 8 * 2**20 + 4


OTHERS = {
    "GET": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP"),
    "POST": (b"POST /prompt HTTP/1.1\r\n", "HTTP"),
    "PUT": (b"PUT /a HTTP/1.1\r\n", "HTTP"),
    "HEAD": (b"HEAD / HTTP/1.0\r\n", "HTTP"),
    "OPTIONS": (b"OPTIONS * HTTP/1.1\r\n", "HTTP"),
    "DELETE": (b"DELETE / HTTP/1.1\r\n", "HTTP"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP"),
    "TLS 1.0 record, short hello": (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", "TLS"),
    "TLS 1.0 record, usual hello": (b"\x16\x03\x01\x01\x3a\x01\x00\x01\x36\x03\x03", "TLS"),
    "TLS 1.0 record, browser's hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS"),
    "TLS 1.0 record, post-quantum hello": (b"\x16\x03\x01\x06\xc0\x01\x00\x06\xbc\x03\x03", "TLS"),
    "TLS 1.2 record": (b"\x16\x03\x03\x00\x7a\x01\x00\x00\x76\x03\x03", "TLS"),
    "SSH": (b"SSH-2.0-OpenSSH_9.9\r\n", "SSH"),
}


@pytest.mark.parametrize("limits", [None, HELLO_LIMITS], ids=["session", "hello"])
@pytest.mark.parametrize(("data", "name"), OTHERS.values(), ids=OTHERS.keys())
def test_the_first_bytes_of_another_protocol_are_named(data, name, limits):
    with pytest.raises(ProtocolError) as refused:
        read([data], limits)
    assert f"the peer speaks {name}" in refused.value.message


@pytest.mark.parametrize(
    "listed",
    [segment(0), segment(1), segment(4, slot={"arena": 1, "offset": 0, "generation": 1})],
    ids=["empty", "inline", "in shared memory"],
)
def test_a_hello_has_no_segments(listed):
    with pytest.raises(ProtocolError, match="lists 1 tensors; at most 0"):
        read([wire((header(listed), ()))], HELLO_LIMITS)


def test_a_hello_has_at_most_sixteen_kilobytes():
    with pytest.raises(ProtocolError, match="over the limit of 16384"):
        read([(16385).to_bytes(4, "big")], HELLO_LIMITS)


def test_a_session_may_send_more_than_its_hello():
    reader = FrameReader(HELLO_LIMITS)
    feed(reader, wire(as_frame()))
    reader.pop()
    reader.limits = Limits()
    large = as_frame(b"abc", note="n" * 100_000)
    feed(reader, wire(large))
    assert taken(reader) == [large]


def test_what_comes_together_with_the_hello_is_held_to_its_limits():
    reader = FrameReader(HELLO_LIMITS)
    with pytest.raises(ProtocolError, match="lists 1 tensors"):
        feed(reader, wire(as_frame()) + wire(as_frame(b"abc")))
