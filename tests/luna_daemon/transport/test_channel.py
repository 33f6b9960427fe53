from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from luna_collection.luna_daemon.errors import ConnectionLostError, ProtocolError
from luna_collection.luna_daemon.protocol.framing import HELLO_LIMITS, Frame, Limits
from luna_collection.luna_daemon.transport.channel import Channel
from luna_collection.luna_daemon.transport.connection import Connection, Deadline

LARGE = os.urandom(2**20) * 20
LONG = 20.0  # seconds after which a test that hangs fails

needs_descriptor_passing = pytest.mark.skipif(
    not hasattr(socket, "send_fds"), reason="this platform passes no descriptors over sockets"
)


def header(*sizes: int) -> bytes:
    listed = (f'{{"dtype":"uint8","shape":[{n}],"order":[0],"nbytes":{n}}}' for n in sizes)
    return f'{{"segments":[{",".join(listed)}]}}'.encode()


def views(*payloads: bytes) -> list[memoryview]:
    return [memoryview(payload) for payload in payloads]


def wire(*payloads: bytes) -> bytes:
    head = header(*map(len, payloads))
    return len(head).to_bytes(4, "big") + head + b"".join(payloads)


@dataclass
class Ends:
    """A channel, what it told, and the bare socket of its peer."""

    peer: socket.socket
    frames: list[list[bytes]] = field(default_factory=list)
    closings: list[Exception | None] = field(default_factory=list)
    channel: Channel = field(init=False)

    def on_frame(self, frame: Frame) -> None:
        self.frames.append([bytes(payload) for payload in frame.payloads])


def with_channel(
    test: Callable[[Ends], Coroutine[Any, Any, None]],
    limits: Limits | None = None,
    send_timeout_s: float = LONG,
) -> None:
    """Run the test on a loop, with a channel and its peer."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        ends = Ends(theirs)
        ends.channel = Channel(
            ours, ends.on_frame, ends.closings.append, limits=limits, send_timeout_s=send_timeout_s
        )
        try:
            await asyncio.wait_for(test(ends), LONG)
        finally:
            ends.channel.close()
            theirs.close()

    asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds; the test's time-out ends what never comes."""
    while not condition():
        await asyncio.sleep(0.001)


async def for_a_while() -> None:
    """Let the loop run long enough for what must not happen."""
    await asyncio.sleep(0.05)


def lost(closings: list[Exception | None]) -> list[str]:
    return [str(error) for error in closings if isinstance(error, ConnectionLostError)]


def test_a_frame_is_handed_over() -> None:
    async def test(ends: Ends) -> None:
        ends.peer.sendall(wire(b"abc", b"", b"de"))
        await until(lambda: ends.frames)
        assert ends.frames == [[b"abc", b"", b"de"]]

    with_channel(test)


def test_frames_of_one_read_are_handed_over_in_their_order() -> None:
    async def test(ends: Ends) -> None:
        ends.peer.sendall(b"".join(wire(bytes([n])) for n in range(100)))
        await until(lambda: len(ends.frames) == 100)
        assert ends.frames == [[bytes([n])] for n in range(100)]

    with_channel(test)


@pytest.mark.parametrize(
    "payloads",
    [[], [b"abc"], [b"", b"x" * 100_000, b"y"]],
    ids=["no payload", "small", "too large to join"],
)
def test_a_frame_is_sent_whole(payloads: list[bytes]) -> None:
    async def test(ends: Ends) -> None:
        peer = Connection(ends.peer)
        received = asyncio.to_thread(peer.receive, Deadline(LONG))
        sent = ends.channel.send(header(*map(len, payloads)), views(*payloads))
        frame, _ = await asyncio.gather(received, sent)
        assert [bytes(payload) for payload in frame.payloads] == payloads

    with_channel(test)


def test_twenty_megabytes_travel_both_ways_at_once() -> None:
    async def test(ends: Ends) -> None:
        peer = Connection(ends.peer)
        frame, _, _ = await asyncio.gather(
            asyncio.to_thread(peer.receive, Deadline(LONG)),
            asyncio.to_thread(peer.send, header(len(LARGE)), views(LARGE)),
            ends.channel.send(header(len(LARGE)), views(LARGE)),
        )
        await until(lambda: ends.frames)
        assert (bytes(frame.payloads[0]) == LARGE, ends.frames[0][0] == LARGE) == (True, True)

    with_channel(test)


def test_frames_of_several_tasks_do_not_mix() -> None:
    async def test(ends: Ends) -> None:
        peer = Connection(ends.peer)
        sends = [
            ends.channel.send(header(300_000, 2), views(bytes([n]) * 300_000, bytes([n]) * 2))
            for n in range(8)
        ]

        def receive_all() -> list[Frame]:
            return [peer.receive(Deadline(LONG)) for _ in sends]

        frames, *_ = await asyncio.gather(asyncio.to_thread(receive_all), *sends)
        assert [set(bytes(f.payloads[0])) == set(bytes(f.payloads[1])) for f in frames] == [
            True
        ] * 8

    with_channel(test)


def test_it_works_over_tcp() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = Connection(socket.create_connection(server.getsockname()))
            frames: list[Frame] = []
            channel = Channel(server.accept()[0], frames.append, lambda error: None)
        peer.send(header(3), views(b"abc"))
        await until(lambda: frames)
        assert bytes(frames[0].payloads[0]) == b"abc"
        channel.close()
        peer.close()

    asyncio.run(test())


def test_a_paused_channel_takes_nothing() -> None:
    async def test(ends: Ends) -> None:
        ends.channel.pause()
        ends.peer.sendall(wire(b"abc"))
        await for_a_while()
        assert ends.frames == []

    with_channel(test)


def test_a_resumed_channel_takes_what_came_meanwhile() -> None:
    async def test(ends: Ends) -> None:
        ends.channel.pause()
        ends.peer.sendall(wire(b"abc"))
        await for_a_while()
        ends.channel.resume()
        await until(lambda: ends.frames)
        assert ends.frames == [[b"abc"]]

    with_channel(test)


def test_one_resume_ends_several_pauses() -> None:
    async def test(ends: Ends) -> None:
        ends.channel.pause()
        ends.channel.pause()
        ends.channel.resume()
        ends.channel.resume()
        ends.peer.sendall(wire(b"abc"))
        await until(lambda: ends.frames)

    with_channel(test)


def test_a_paused_channel_can_send() -> None:
    async def test(ends: Ends) -> None:
        ends.channel.pause()
        await ends.channel.send(header(3), views(b"abc"))
        assert ends.peer.recv(1000) == wire(b"abc")

    with_channel(test)


def test_a_paused_channel_can_be_closed() -> None:
    async def test(ends: Ends) -> None:
        ends.channel.pause()
        ends.channel.close()
        ends.channel.resume()
        assert ends.closings == [None]

    with_channel(test)


def test_a_peer_that_closes_between_frames_is_no_error() -> None:
    async def test(ends: Ends) -> None:
        ends.peer.sendall(wire(b"abc"))
        ends.peer.close()
        await until(lambda: ends.closings)
        assert (ends.frames, ends.closings) == ([[b"abc"]], [None])

    with_channel(test)


@pytest.mark.parametrize("cut", [2, 20, len(wire(b"abc")) - 1], ids=["length", "header", "payload"])
def test_a_peer_that_dies_inside_a_frame_is_an_error(cut: int) -> None:
    async def test(ends: Ends) -> None:
        ends.peer.sendall(wire(b"abc")[:cut])
        ends.peer.close()
        await until(lambda: ends.closings)
        assert (ends.frames, lost(ends.closings)) == ([], ["The peer died inside a message."])

    with_channel(test)


def test_a_protocol_error_closes_the_channel() -> None:
    async def test(ends: Ends) -> None:
        ends.peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: ends.closings)
        assert [type(error) for error in ends.closings] == [ProtocolError]
        assert ends.peer.recv(1000) == b""

    with_channel(test)


def test_on_close_is_called_once() -> None:
    async def test(ends: Ends) -> None:
        ends.channel.close()
        ends.channel.close()
        ends.peer.close()
        await for_a_while()
        assert ends.closings == [None]

    with_channel(test)


def test_frames_behind_the_one_that_made_us_close_are_dropped() -> None:
    async def test(ends: Ends) -> None:
        ends.channel.on_frame = lambda frame: (ends.on_frame(frame), ends.channel.close())
        ends.peer.sendall(wire(b"a") + wire(b"b"))
        await until(lambda: ends.closings)
        assert ends.frames == [[b"a"]]

    with_channel(test)


def test_limits_that_a_frame_changed_hold_for_what_comes_after_it() -> None:
    def widen(ends: Ends, frame: Frame) -> None:
        ends.on_frame(frame)
        ends.channel.reader.limits = Limits()

    async def test(ends: Ends) -> None:
        ends.channel.on_frame = lambda frame: widen(ends, frame)
        ends.peer.sendall(wire())
        await until(lambda: ends.frames)
        ends.peer.sendall(wire(b"abc"))
        await until(lambda: len(ends.frames) == 2)
        assert (ends.frames, ends.closings) == ([[], [b"abc"]], [])

    with_channel(test, limits=HELLO_LIMITS)


def test_a_peer_that_never_reads_is_given_up() -> None:
    async def test(ends: Ends) -> None:
        with pytest.raises(ConnectionLostError, match="does not take its messages any more"):
            await ends.channel.send(header(len(LARGE)), views(LARGE))
        assert (ends.channel.closed, len(lost(ends.closings))) == (True, 1)

    with_channel(test, send_timeout_s=0.2)


def test_a_peer_that_dies_while_it_is_sent_to_ends_the_sending() -> None:
    async def test(ends: Ends) -> None:
        sending = asyncio.create_task(ends.channel.send(header(len(LARGE)), views(LARGE)))
        await for_a_while()
        ends.peer.recv(1000)
        ends.peer.close()
        with pytest.raises(ConnectionLostError):
            await asyncio.wait_for(sending, 5)
        assert len(ends.closings) == 1

    with_channel(test)


def test_closing_ends_a_send_that_waits() -> None:
    async def test(ends: Ends) -> None:
        sending = asyncio.create_task(ends.channel.send(header(len(LARGE)), views(LARGE)))
        await for_a_while()
        ends.channel.close()
        with pytest.raises(ConnectionLostError):
            await asyncio.wait_for(sending, 5)

    with_channel(test)


def test_after_a_send_was_cut_off_the_loop_watches_new_sockets_of_the_same_number() -> None:
    async def test(ends: Ends) -> None:
        sending = asyncio.create_task(ends.channel.send(header(len(LARGE)), views(LARGE)))
        await for_a_while()
        number = ends.channel.sock.fileno()
        ends.channel.close()
        ours, theirs = socket.socketpair()
        assert number in (ours.fileno(), theirs.fileno())
        second = Ends(theirs if ours.fileno() == number else ours)
        sock = ours if ours.fileno() == number else theirs
        second.channel = Channel(sock, second.on_frame, second.closings.append)
        second.peer.sendall(wire(b"abc"))
        await until(lambda: second.frames)
        second.channel.close()
        second.peer.close()
        with contextlib.suppress(ConnectionLostError):
            await sending

    with_channel(test)


def test_sending_over_a_closed_channel_says_that_it_is_lost() -> None:
    async def test(ends: Ends) -> None:
        ends.channel.close()
        with pytest.raises(ConnectionLostError):
            await ends.channel.send(header())
        assert ends.closings == [None]

    with_channel(test)


def test_a_frame_that_was_cancelled_half_sent_is_never_followed_by_another() -> None:
    async def test(ends: Ends) -> None:
        sending = asyncio.create_task(ends.channel.send(header(len(LARGE)), views(LARGE)))
        await for_a_while()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        with contextlib.suppress(ConnectionLostError):
            await ends.channel.send(header(3), views(b"abc"))
        peer = Connection(ends.peer)
        with pytest.raises(ConnectionLostError, match="in the middle of a message"):
            peer.receive(Deadline(LONG))
        assert len(lost(ends.closings)) == 1

    with_channel(test)


def test_a_send_that_is_cancelled_before_its_turn_leaves_the_channel_good() -> None:
    async def test(ends: Ends) -> None:
        first = asyncio.create_task(ends.channel.send(header(len(LARGE)), views(LARGE)))
        waiting = asyncio.create_task(ends.channel.send(header(3), views(b"abc")))
        await for_a_while()
        waiting.cancel()
        last = asyncio.create_task(ends.channel.send(header(3), views(b"xyz")))
        peer = Connection(ends.peer)

        def receive_both() -> list[bytes]:
            return [bytes(peer.receive(Deadline(LONG)).payloads[0]) for _ in range(2)]

        received = await asyncio.to_thread(receive_both)
        await asyncio.gather(first, last)
        assert [received[0] == LARGE, received[1]] == [True, b"xyz"]

    with_channel(test)


def received(ends: Ends, count: int) -> Coroutine[Any, Any, list[bytes]]:
    """Receive frames in a thread of their own; return their first payloads."""
    peer = Connection(ends.peer)
    return asyncio.to_thread(
        lambda: [bytes(peer.receive(Deadline(LONG)).payloads[0]) for _ in range(count)]
    )


def test_a_small_frame_goes_at_once() -> None:
    async def test(ends: Ends) -> None:
        assert ends.channel.send_now(header(3), views(b"abc")) is None
        assert ends.peer.recv(1000) == wire(b"abc")

    with_channel(test)


@pytest.mark.parametrize("size", [3, 20_000, len(LARGE)], ids=["small", "cut", "large"])
def test_what_does_not_go_at_once_is_left_to_await(size: int) -> None:
    async def test(ends: Ends) -> None:
        ends.channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        rests = []
        while not rests:  # until the peer's buffer is full
            rest = ends.channel.send_now(header(size), views(LARGE[:size]))
            sent = 1 if rest is None else 0
            rests += [rest] if rest is not None else []
            ends.frames += [[]] * sent
        expected = [LARGE[:size]] * (len(ends.frames) + 1)
        got, *_ = await asyncio.gather(received(ends, len(expected)), *rests)
        assert got == expected

    with_channel(test)


def test_large_payloads_go_at_once_as_far_as_the_peer_takes_them() -> None:
    parts = (LARGE[:70_000], LARGE[:1], LARGE[: 6 * 2**20], b"", LARGE[5:90_000])

    async def test(ends: Ends) -> None:
        whole = wire(*parts)
        rest = ends.channel.send_now(header(*map(len, parts)), views(*parts))
        assert rest is not None, "the frame is larger than what a socket holds"
        first = ends.peer.recv(1000)
        assert first == whole[: len(first)], "it has begun without being awaited"
        rests = asyncio.create_task(rest)
        taken = first
        while len(taken) < len(whole):
            taken += await asyncio.to_thread(ends.peer.recv, 2**20)
        await rests
        assert taken == whole

    with_channel(test)


def test_a_frame_sent_at_once_does_not_overtake_one_that_waits() -> None:
    async def test(ends: Ends) -> None:
        first = asyncio.create_task(ends.channel.send(header(len(LARGE)), views(LARGE)))
        second = asyncio.create_task(ends.channel.send(header(1), views(b"2")))
        await for_a_while()
        rest = ends.channel.send_now(header(1), views(b"3"))
        assert rest is not None
        got, *_ = await asyncio.gather(received(ends, 3), first, second, rest)
        assert [got[0] == LARGE, *got[1:]] == [True, b"2", b"3"]

    with_channel(test)


def test_the_rest_of_a_frame_is_sent_by_whoever_sends_next() -> None:
    async def test(ends: Ends) -> None:
        ends.channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        whole = -1
        rest = None
        while rest is None:
            whole += 1
            rest = ends.channel.send_now(header(20_000), views(LARGE[:20_000]))
        getting = asyncio.create_task(received(ends, whole + 2))
        await ends.channel.send(header(1), views(b"2"))
        await rest
        assert await getting == [LARGE[:20_000]] * (whole + 1) + [b"2"]

    with_channel(test)


def test_sending_at_once_over_a_closed_channel_says_that_it_is_lost() -> None:
    async def test(ends: Ends) -> None:
        ends.channel.close()
        rest = ends.channel.send_now(header())
        assert rest is not None
        with pytest.raises(ConnectionLostError):
            await rest

    with_channel(test)


@needs_descriptor_passing
def test_a_descriptor_is_sent_with_its_frame() -> None:
    async def test(ends: Ends) -> None:
        peer = Connection(ends.peer)
        read_end, write_end = os.pipe()
        await ends.channel.send(header(3), views(b"abc"), [write_end])
        frame = peer.receive(Deadline(LONG))
        taken = peer.take_fd()
        os.write(taken, b"through the copy")
        assert (bytes(frame.payloads[0]), os.read(read_end, 100)) == (b"abc", b"through the copy")
        for fd in (read_end, write_end, taken):
            os.close(fd)

    with_channel(test)


@needs_descriptor_passing
def test_a_descriptor_waits_until_the_peer_has_room() -> None:
    async def test(ends: Ends) -> None:
        filler = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filler += ends.channel.sock.send(bytes(1000))
        read_end, write_end = os.pipe()
        sending = asyncio.create_task(ends.channel.send(header(), (), [write_end]))
        await for_a_while()
        assert not sending.done()
        while filler:
            filler -= len(ends.peer.recv(min(filler, 65536)))
        await sending
        peer = Connection(ends.peer)
        peer.receive(Deadline(LONG))
        for fd in (read_end, write_end, peer.take_fd()):
            os.close(fd)

    with_channel(test)


@needs_descriptor_passing
def test_descriptors_from_a_client_are_not_accepted(count_descriptors: Callable[[], int]) -> None:
    async def test(ends: Ends) -> None:
        read_end, write_end = os.pipe()
        before = count_descriptors()
        socket.send_fds(ends.peer, [wire(b"abc")], [read_end, write_end])
        await until(lambda: ends.frames)
        assert (ends.frames, count_descriptors()) == ([[b"abc"]], before)
        os.close(read_end)
        os.close(write_end)

    with_channel(test)
