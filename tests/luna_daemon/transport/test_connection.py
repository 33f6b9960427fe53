from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from luna_collection.luna_daemon.errors import ConnectionLostError, DeadlineError, ProtocolError
from luna_collection.luna_daemon.protocol.framing import HELLO_LIMITS, Frame, frame_head
from luna_collection.luna_daemon.transport.connection import Connection, Deadline

LARGE = os.urandom(2**20) * 20
LONG = 20.0  # seconds after which a test that hangs fails

needs_descriptor_passing = pytest.mark.skipif(
    not hasattr(socket, "send_fds"), reason="this platform passes no descriptors over sockets"
)


def header(*sizes: int) -> bytes:
    listed = (f'{{"dtype":"uint8","shape":[{n}],"order":[0],"nbytes":{n}}}' for n in sizes)
    return f'{{"segments":[{",".join(listed)}]}}'.encode()


FRAME_OF_LARGE = 4 + len(header(len(LARGE))) + len(LARGE)


def views(*payloads: bytes) -> list[memoryview]:
    return [memoryview(payload) for payload in payloads]


def payloads_of(frame: Frame) -> list[bytes]:
    return [bytes(payload) for payload in frame.payloads]


def send_raw(sock: socket.socket, *payloads: bytes, cut: int | None = None) -> None:
    """Send a frame, or its first `cut` bytes, without our own code for it."""
    head = header(*map(len, payloads))
    sock.sendall((len(head).to_bytes(4, "big") + head + b"".join(payloads))[:cut])


Pair = tuple[Connection, Connection]
HalfPair = tuple[Connection, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of one connection."""
    one, two = (Connection(sock) for sock in socket.socketpair())
    yield one, two
    one.close()
    two.close()


@pytest.fixture
def half_pair() -> Iterator[HalfPair]:
    """One end, and the bare socket at the other."""
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    yield connection, theirs
    connection.close()
    theirs.close()


@pytest.mark.parametrize(
    "payloads",
    [[], [b"abc"], [b"", b"abc", b""], [b"x" * 100_000], [b"a" * 70_000, b"", b"b" * 3]],
    ids=["no payload", "one", "empty ones", "too large to join", "several"],
)
def test_a_frame_arrives_as_it_was_sent(pair: Pair, payloads: list[bytes]) -> None:
    head = header(*map(len, payloads))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(pair[0].send, head, views(*payloads))
        frame = pair[1].receive(Deadline(LONG))
    assert (frame.header, payloads_of(frame)) == (head, payloads)


def test_frames_arrive_in_their_order(pair: Pair) -> None:
    sent = [bytes([n]) for n in range(20)]
    for payload in sent:
        pair[0].send(header(1), views(payload))
    assert [payloads_of(pair[1].receive(Deadline(LONG))) for _ in sent] == [[p] for p in sent]


def test_twenty_megabytes_travel_both_ways_at_once(pair: Pair) -> None:
    with ThreadPoolExecutor(4) as pool:
        received = [pool.submit(end.receive, Deadline(LONG)) for end in pair]
        for end in pair:
            pool.submit(end.send, header(len(LARGE)), views(LARGE))
        assert [payloads_of(future.result()) == [LARGE] for future in received] == [True, True]


def test_frames_of_several_threads_do_not_mix(pair: Pair) -> None:
    def send_own(byte: int) -> None:
        for _ in range(10):
            pair[0].send(header(90_000, 5), views(bytes([byte]) * 90_000, bytes([byte]) * 5))

    with ThreadPoolExecutor(8) as pool:
        for byte in range(8):
            pool.submit(send_own, byte)
        frames = [payloads_of(pair[1].receive(Deadline(LONG))) for _ in range(80)]
    assert all(set(large) == set(small) for large, small in frames)
    assert sorted(small[0] for _, small in frames) == sorted(list(range(8)) * 10)


def test_it_works_over_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = Connection(socket.create_connection(server.getsockname()))
        theirs = Connection(server.accept()[0])
    ours.send(header(3), views(b"abc"))
    assert payloads_of(theirs.receive(Deadline(LONG))) == [b"abc"]
    ours.close()
    theirs.close()


def test_small_messages_over_tcp_are_not_held_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection(socket.create_connection(server.getsockname()))
    assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    connection.close()


def test_the_time_out_of_connecting_does_not_stay() -> None:
    sock, other = socket.socketpair()
    sock.settimeout(0.01)
    connection = Connection(sock)
    assert sock.gettimeout() is None
    connection.close()
    other.close()


def test_a_header_that_no_receiver_accepts_is_not_sent(pair: Pair) -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        pair[0].send(bytes(8 * 2**20 + 1))
    pair[0].send(header())
    assert pair[1].receive(Deadline(LONG)).header == header()


def test_the_limits_of_a_connection_hold() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours, HELLO_LIMITS)
    send_raw(theirs, b"abc")
    with pytest.raises(ProtocolError, match="lists 1 tensors; at most 0"):
        connection.receive(Deadline(LONG))
    connection.close()
    theirs.close()


def test_another_protocol_is_refused(half_pair: HalfPair) -> None:
    connection, peer = half_pair
    peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ProtocolError, match="the peer speaks HTTP"):
        connection.receive(Deadline(LONG))


WHOLE = len(frame_head(header(200_000))) + 200_000


@pytest.mark.parametrize(
    "cut",
    [2, 4, 40, WHOLE - 200_000, WHOLE - 100_000, WHOLE - 1],
    ids=["length", "before header", "header", "before payload", "payload", "last byte"],
)
def test_a_peer_that_dies_inside_a_frame_is_told_apart(half_pair: HalfPair, cut: int) -> None:
    connection, peer = half_pair
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: (send_raw(peer, bytes(200_000), cut=cut), peer.close()))
        with pytest.raises(ConnectionLostError) as lost:
            connection.receive(Deadline(LONG))
    assert lost.value.message == "The other side closed the connection in the middle of a message."


def test_a_peer_that_closes_between_frames_is_told_apart(half_pair: HalfPair) -> None:
    connection, peer = half_pair
    send_raw(peer, b"abc")
    peer.close()
    connection.receive(Deadline(LONG))
    with pytest.raises(ConnectionLostError) as lost:
        connection.receive(Deadline(LONG))
    assert lost.value.message == "The other side closed the connection."


def test_what_a_peer_sent_before_it_went_is_received(half_pair: HalfPair) -> None:
    connection, peer = half_pair
    for payload in (b"a", b"b", b"c"):
        send_raw(peer, payload)
    peer.close()
    assert [payloads_of(connection.receive(Deadline(LONG))) for _ in range(3)] == [
        [b"a"],
        [b"b"],
        [b"c"],
    ]


def test_sending_to_a_peer_that_is_gone_says_so(half_pair: HalfPair) -> None:
    connection, peer = half_pair
    peer.close()
    with pytest.raises(ConnectionLostError, match="broke while sending"):
        connection.send(header())


def test_a_peer_that_dies_while_it_is_sent_to_ends_the_sending(half_pair: HalfPair) -> None:
    connection, peer = half_pair
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(connection.send, header(len(LARGE)), views(LARGE))
        peer.recv(1000)
        peer.close()
        with pytest.raises(ConnectionLostError, match="broke while sending"):
            sending.result(LONG)


def test_no_frame_in_time_is_a_deadline(pair: Pair) -> None:
    with pytest.raises(DeadlineError) as late:
        pair[0].receive(Deadline(0.05))
    assert late.value.message == "No answer within 0.05 s."


def test_after_a_deadline_the_connection_is_still_good(pair: Pair) -> None:
    with pytest.raises(DeadlineError):
        pair[1].receive(Deadline(0.01))
    pair[0].send(header(3), views(b"abc"))
    assert payloads_of(pair[1].receive(Deadline(LONG))) == [b"abc"]


@pytest.mark.parametrize(
    "cut", [2, 20, WHOLE - 100_000], ids=["in the length", "in the header", "in a payload"]
)
def test_a_frame_goes_on_after_a_deadline_inside_it(half_pair: HalfPair, cut: int) -> None:
    connection, peer = half_pair
    payload = os.urandom(200_000)
    data = frame_head(header(len(payload))) + payload
    with ThreadPoolExecutor(1) as pool:
        pool.submit(peer.sendall, data[:cut])
        with pytest.raises(DeadlineError):
            connection.receive(Deadline(0.1))
        pool.submit(peer.sendall, data[cut:])
        assert payloads_of(connection.receive(Deadline(LONG))) == [payload]


def test_a_frame_that_is_there_is_given_even_when_the_time_is_over(pair: Pair) -> None:
    pair[0].send(header(3), views(b"abc"))
    assert payloads_of(pair[1].receive(Deadline(0))) == [b"abc"]


@pytest.mark.parametrize(
    ("seconds", "expired", "least", "most"),
    [
        (None, False, math.inf, math.inf),
        (0, True, 0, 0),
        (-5, True, 0, 0),
        (3600, False, 3000, 3600),
    ],
    ids=["without a limit", "no time", "less than none", "an hour"],
)
def test_a_deadline_knows_what_is_left(
    seconds: float | None, expired: bool, least: float, most: float
) -> None:
    deadline = Deadline(seconds)
    assert deadline.expired is expired
    assert least <= deadline.remaining() <= most


def pipes(count: int) -> list[tuple[int, int]]:
    return [os.pipe() for _ in range(count)]


def close_all(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        os.close(fd)


@needs_descriptor_passing
def test_a_descriptor_arrives_with_its_frame(pair: Pair) -> None:
    read_end, write_end = os.pipe()
    pair[0].send(header(), fds=[write_end])
    pair[1].receive(Deadline(LONG))
    taken = pair[1].take_fd()
    os.write(taken, b"through the peer's copy")
    assert os.read(read_end, 100) == b"through the peer's copy"
    close_all([read_end, write_end, taken])


@needs_descriptor_passing
def test_descriptors_come_in_their_order(pair: Pair) -> None:
    ends = pipes(3)
    pair[0].send(header(), fds=[ends[0][1], ends[1][1]])
    pair[0].send(header(), fds=[ends[2][1]])
    for _ in range(2):
        pair[1].receive(Deadline(LONG))
    taken = [pair[1].take_fd() for _ in ends]
    for number, fd in enumerate(taken):
        os.write(fd, bytes([number]))
    assert [os.read(read_end, 10) for read_end, _ in ends] == [b"\0", b"\1", b"\2"]
    close_all([fd for end in ends for fd in end] + taken)


@needs_descriptor_passing
def test_a_descriptor_can_come_with_payloads_too_large_to_join(pair: Pair) -> None:
    read_end, write_end = os.pipe()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(pair[0].send, header(len(LARGE)), views(LARGE), [write_end])
        assert payloads_of(pair[1].receive(Deadline(LONG))) == [LARGE]
    close_all([read_end, write_end, pair[1].take_fd()])


@needs_descriptor_passing
def test_a_descriptor_is_not_inherited_by_children(pair: Pair) -> None:
    read_end, write_end = os.pipe()
    pair[0].send(header(), fds=[write_end])
    pair[1].receive(Deadline(LONG))
    taken = pair[1].take_fd()
    assert os.get_inheritable(taken) is False
    close_all([read_end, write_end, taken])


def test_a_descriptor_that_was_announced_and_did_not_come_is_missed(pair: Pair) -> None:
    pair[0].send(header())
    pair[1].receive(Deadline(LONG))
    with pytest.raises(ConnectionLostError, match="announced shared memory but did not send it"):
        pair[1].take_fd()


@needs_descriptor_passing
def test_descriptors_that_nobody_took_are_closed(count_descriptors: Callable[[], int]) -> None:
    before = count_descriptors()
    one, two = (Connection(sock) for sock in socket.socketpair())
    read_end, write_end = os.pipe()
    one.send(header(), fds=[write_end, write_end, write_end])
    two.receive(Deadline(LONG))
    one.close()
    two.close()
    close_all([read_end, write_end])
    assert count_descriptors() == before


@needs_descriptor_passing
def test_descriptors_beyond_those_a_frame_may_have_are_not_kept(
    count_descriptors: Callable[[], int],
) -> None:
    before = count_descriptors()
    one, two = (Connection(sock) for sock in socket.socketpair())
    read_end, write_end = os.pipe()
    one.send(header(), fds=[write_end] * 50)
    two.receive(Deadline(LONG))
    assert count_descriptors() <= before + 4 + 8
    one.close()
    two.close()
    close_all([read_end, write_end])


def test_closing_ends_a_receive_that_waits_in_another_thread(pair: Pair) -> None:
    started = threading.Event()

    def receive() -> None:
        started.set()
        pair[0].receive()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(receive)
        started.wait(LONG)
        pair[0].close()
        with pytest.raises(ConnectionLostError):
            waiting.result(LONG)


def test_closing_twice_does_no_harm(pair: Pair) -> None:
    pair[0].close()
    pair[0].close()
    assert pair[0].fileno() == -1


@pytest.mark.parametrize(
    "use",
    [lambda c: c.receive(Deadline(LONG)), lambda c: c.send(header())],
    ids=["receiving", "sending"],
)
def test_a_closed_connection_says_that_it_is_lost(
    pair: Pair, use: Callable[[Connection], object]
) -> None:
    pair[0].close()
    with pytest.raises(ConnectionLostError):
        use(pair[0])


class GivenUp(BaseException):
    """As ComfyUI's interrupt: not an Exception."""


def give_up() -> None:
    raise GivenUp


def test_sending_to_a_peer_that_takes_nothing_can_be_given_up_and_then_closes(
    half_pair: HalfPair,
) -> None:
    connection, _ = half_pair
    with pytest.raises(GivenUp):
        connection.send(header(len(LARGE)), views(LARGE), give_up=give_up)
    assert connection.closed, "nothing may follow half a frame"


def test_giving_up_before_the_frame_has_begun_keeps_the_connection(half_pair: HalfPair) -> None:
    connection, peer = half_pair
    connection.sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            connection.sock.send(bytes(65536))
    with pytest.raises(GivenUp):
        connection.send(header(), give_up=give_up)
    assert not connection.closed
    while len(peer.recv(65536)) == 65536:
        pass
    connection.send(header())
    assert peer.recv(65536).endswith(header())


def test_who_waits_for_another_threads_frame_can_give_up_too(half_pair: HalfPair) -> None:
    connection, peer = half_pair
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(connection.send, header(len(LARGE)), views(LARGE))
        first = peer.recv(1)
        with pytest.raises(GivenUp):
            connection.send(header(), give_up=give_up)
        received = len(first)
        while received < FRAME_OF_LARGE:
            received += len(peer.recv(2**20))
        sending.result(LONG)
    assert not connection.closed


def test_a_peer_that_takes_its_time_gets_the_whole_frame(half_pair: HalfPair) -> None:
    connection, peer = half_pair
    looks: list[bool] = []
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(
            connection.send, header(len(LARGE)), views(LARGE), give_up=lambda: looks.append(True)
        )
        while not looks:
            pass
        received = bytearray()
        while len(received) < FRAME_OF_LARGE:
            received += peer.recv(2**20)
        sending.result(LONG)
    assert received.endswith(LARGE)
