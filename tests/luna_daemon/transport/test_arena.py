from __future__ import annotations

import errno
import gc
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.luna_daemon.errors import BadRequestError, RejectedError
from luna_collection.luna_daemon.instance_lock import is_alive
from luna_collection.luna_daemon.protocol.segments import Slot
from luna_collection.luna_daemon.transport.arena import (
    ALIGNMENT,
    MEMFD,
    NAMED,
    ArenaReader,
    ArenaWriter,
    SharedRegion,
    attach_memfd,
    attach_named,
    create_region,
    has_memfd,
    sweep_orphans,
)

KILOBYTE = 1024
SIZE = 64 * KILOBYTE

needs_memfd = pytest.mark.skipif(not has_memfd(), reason="this platform has no memfd")
on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux shows named memory in /dev/shm"
)
each_backing = pytest.mark.parametrize(
    "backing", [pytest.param(MEMFD, marks=needs_memfd), NAMED], indirect=True
)


@pytest.fixture
def backing(request: pytest.FixtureRequest) -> str:
    """Which kind of region the test is about; named where it does not say."""
    return str(getattr(request, "param", NAMED))


@pytest.fixture
def region(backing: str) -> Iterator[SharedRegion]:
    """A region of 64 KiB."""
    made = create_region(backing, SIZE)
    yield made
    made.close()


@pytest.fixture
def writer(region: SharedRegion) -> ArenaWriter:
    """The writing end of the region, as arena 7."""
    return ArenaWriter(7, region)


@pytest.fixture
def reader(region: SharedRegion) -> ArenaReader:
    """The reading end of the same memory."""
    return ArenaReader(7, region)


def put(writer: ArenaWriter, data: bytes) -> Slot:
    slot, memory = writer.allocate(len(data))
    memory[:] = data
    return slot


def changed(slot: Slot, **fields: int) -> Slot:
    now = {"arena": slot.arena, "offset": slot.offset, "generation": slot.generation}
    return Slot(**{**now, **fields})


@each_backing
def test_a_new_region_is_zeroed(region: SharedRegion) -> None:
    assert bytes(region.memory) == bytes(SIZE)


@each_backing
def test_a_region_has_the_size_that_was_asked_for(backing: str) -> None:
    odd = create_region(backing, 5000)
    assert (odd.nbytes, len(odd.memory)) == (5000, 5000)
    odd.close()


@each_backing
@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 5000])
def test_what_was_written_is_read(writer: ArenaWriter, reader: ArenaReader, nbytes: int) -> None:
    data = os.urandom(nbytes)
    slot = put(writer, data)
    assert bytes(reader.view(slot, nbytes)) == data


@each_backing
def test_slots_do_not_overlap(writer: ArenaWriter, reader: ArenaReader) -> None:
    written = [bytes([n]) * (n * 17) for n in range(1, 20)]
    slots = [put(writer, data) for data in written]
    assert [bytes(reader.view(s, len(d))) for s, d in zip(slots, written, strict=True)] == written


def test_a_slot_names_its_arena(writer: ArenaWriter) -> None:
    assert writer.allocate(10)[0].arena == 7


def test_slots_begin_at_aligned_addresses(writer: ArenaWriter) -> None:
    assert [writer.allocate(n)[0].offset % ALIGNMENT for n in (1, 63, 65, 1000)] == [0] * 4


def test_slots_are_given_out_from_the_bottom(writer: ArenaWriter) -> None:
    assert [writer.allocate(64)[0].offset for _ in range(3)] == [0, 128, 256]


def test_the_lowest_gap_that_fits_is_used(writer: ArenaWriter) -> None:
    slots = [writer.allocate(n)[0] for n in (64, 448, 64, 192, 64)]
    for slot in (slots[1], slots[3]):
        writer.free(slot.offset, slot.generation)
    assert writer.allocate(192)[0].offset == slots[1].offset


def test_a_gap_that_is_too_small_is_left(writer: ArenaWriter) -> None:
    slots = [writer.allocate(64)[0] for _ in range(3)]
    writer.free(slots[1].offset, slots[1].generation)
    assert writer.allocate(65)[0].offset == 384


def test_neighbouring_gaps_become_one(writer: ArenaWriter) -> None:
    slots = [writer.allocate(64)[0] for _ in range(3)]
    for slot in slots[:2]:
        writer.free(slot.offset, slot.generation)
    assert writer.allocate(192)[0].offset == 0


def test_room_that_was_freed_is_used_again_without_end(writer: ArenaWriter) -> None:
    for _ in range(1000):
        slot, _ = writer.allocate(SIZE - ALIGNMENT)
        assert writer.free(slot.offset, slot.generation)


def test_the_last_byte_can_be_used(writer: ArenaWriter) -> None:
    assert writer.allocate(SIZE - ALIGNMENT) is not None


def test_one_byte_more_than_there_is_does_not_fit(writer: ArenaWriter) -> None:
    assert writer.allocate(SIZE - ALIGNMENT + 1) is None


def test_a_full_arena_gives_nothing(writer: ArenaWriter) -> None:
    put(writer, bytes(SIZE // 2))
    assert writer.allocate(SIZE // 2) is None


def test_what_did_not_fit_takes_no_room(writer: ArenaWriter) -> None:
    writer.allocate(SIZE)
    assert (writer.used_bytes, writer.allocate(10)[0].offset) == (0, 0)


def test_used_bytes_count_slots_with_their_headers(writer: ArenaWriter) -> None:
    slot, _ = writer.allocate(100)
    writer.allocate(1)
    assert writer.used_bytes == ALIGNMENT + 128 + ALIGNMENT + 64
    writer.free(slot.offset, slot.generation)
    assert writer.used_bytes == ALIGNMENT + 64


allocations = st.integers(0, 6000).map(lambda nbytes: ("allocate", nbytes))
frees = st.integers(0, 60).map(lambda number: ("free", number))


@settings(deadline=None, max_examples=80)
@given(st.lists(allocations | frees, max_size=60))
def test_no_order_of_allocating_and_freeing_makes_slots_overlap(steps):
    region = create_region(NAMED, SIZE)
    writer, used = ArenaWriter(1, region), {}
    for step, number in steps:
        if step == "free":
            if used:
                offset = sorted(used)[number % len(used)]
                assert writer.free(offset, used.pop(offset)[1])
        elif (got := writer.allocate(number)) is None:
            assert not fits(number, used)
        else:
            slot, memory = got
            assert (len(memory), slot.offset % ALIGNMENT) == (number, 0)
            used[slot.offset] = (slot.offset + ALIGNMENT + number, slot.generation)
    ends = [0, *(used[offset][0] for offset in sorted(used))]
    starts = [*sorted(used), SIZE]
    region.close()
    assert all(end <= start for end, start in zip(ends, starts, strict=True))


def fits(nbytes: int, used: dict[int, tuple[int, int]]) -> bool:
    """Is there a gap with room for header and payload, found without our own search?"""
    taken = [False] * (SIZE // ALIGNMENT)
    for start, (end, _) in used.items():
        for cell in range(start // ALIGNMENT, -(-end // ALIGNMENT)):
            taken[cell] = True
    run = longest = 0
    for cell in taken:
        run = 0 if cell else run + 1
        longest = max(longest, run)
    return longest >= 1 + -(-nbytes // ALIGNMENT)


@pytest.fixture
def threads_take_turns_often() -> Iterator[None]:
    """Let Python change the thread so often that a missing lock shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@each_backing
@pytest.mark.usefixtures("threads_take_turns_often")
def test_slots_of_eight_threads_never_overlap(writer: ArenaWriter, reader: ArenaReader) -> None:
    starting = threading.Barrier(8)

    def work(seed: int) -> list[str]:
        wrong = []
        starting.wait()
        for number in range(150):
            size = (seed * 997 + number * 131) % 3000
            slot, memory = writer.allocate(size) or (None, None)
            if slot is None:
                continue
            pattern = (hashlib.sha256(bytes([seed, number])).digest() * 100)[:size]
            memory[:] = pattern
            if bytes(reader.view(slot, size)) != pattern:
                wrong.append(f"the slot at {slot.offset} was overwritten")
            if not writer.free(slot.offset, slot.generation):
                wrong.append(f"the slot at {slot.offset} belonged to another thread")
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [[]] * 8
    assert writer.used_bytes == 0


def test_an_acknowledged_slot_is_free(writer: ArenaWriter) -> None:
    slot, _ = writer.allocate(10)
    assert (writer.free(slot.offset, slot.generation), writer.used_bytes) == (True, 0)


def test_a_second_acknowledgement_is_ignored(writer: ArenaWriter) -> None:
    slot, _ = writer.allocate(10)
    writer.free(slot.offset, slot.generation)
    assert writer.free(slot.offset, slot.generation) is False


def test_a_late_acknowledgement_does_not_free_the_slot_that_came_after(
    writer: ArenaWriter, reader: ArenaReader
) -> None:
    old, _ = writer.allocate(10)
    writer.free(old.offset, old.generation)
    new = put(writer, b"0123456789")
    assert (new.offset, writer.free(old.offset, old.generation)) == (old.offset, False)
    assert bytes(reader.view(new, 10)) == b"0123456789"


@pytest.mark.parametrize(
    ("offset", "generation"), [(64, 1), (0, 2), (0, 0), (0, -1), (-64, 1)], ids=str
)
def test_a_forged_acknowledgement_frees_nothing(
    writer: ArenaWriter, offset: int, generation: int
) -> None:
    slot, _ = writer.allocate(1000)
    assert (slot.offset, slot.generation) == (0, 1)
    assert (writer.free(offset, generation), writer.used_bytes > 0) == (False, True)


def test_a_slot_that_was_freed_is_refused(writer: ArenaWriter, reader: ArenaReader) -> None:
    slot = put(writer, b"abc")
    writer.free(slot.offset, slot.generation)
    with pytest.raises(BadRequestError, match="was replaced before it was read"):
        reader.view(slot, 3)


def test_a_slot_that_was_used_anew_is_refused(writer: ArenaWriter, reader: ArenaReader) -> None:
    old = put(writer, b"abc")
    writer.free(old.offset, old.generation)
    put(writer, b"xyz")
    with pytest.raises(BadRequestError, match="was replaced before it was read"):
        reader.view(old, 3)


def test_a_slot_that_is_used_anew_while_it_is_copied_is_noticed(
    writer: ArenaWriter, reader: ArenaReader
) -> None:
    old = put(writer, b"abc")
    reader.view(old, 3)
    writer.free(old.offset, old.generation)
    put(writer, b"xyz")
    with pytest.raises(BadRequestError, match="was replaced before it was read"):
        reader.check(old, 3)


@pytest.mark.parametrize(
    ("fields", "nbytes"),
    [
        ({"generation": 2}, 1000),
        ({"generation": 0}, 1000),
        ({}, 999),
        ({}, 1001),
        ({}, 0),
        ({"offset": ALIGNMENT}, 1000),
    ],
    ids=["later generation", "no generation", "smaller", "larger", "nothing", "other offset"],
)
def test_a_forged_slot_is_refused(
    writer: ArenaWriter, reader: ArenaReader, fields: dict[str, int], nbytes: int
) -> None:
    slot = put(writer, bytes(1000))
    with pytest.raises(BadRequestError, match="was replaced before it was read"):
        reader.view(changed(slot, **fields), nbytes)


@pytest.mark.parametrize(
    ("offset", "nbytes"),
    [
        (SIZE, 0),
        (SIZE - ALIGNMENT, 1),
        (0, SIZE - ALIGNMENT + 1),
        (0, 2**48),
        (2**48, 0),
        (2**48, 2**48),
        (1, 10),
        (ALIGNMENT // 2, 10),
    ],
    ids=["behind the end", "at the end", "too long", "huge", "far", "both", "odd", "half aligned"],
)
def test_a_slot_outside_the_arena_is_refused(
    writer: ArenaWriter, reader: ArenaReader, offset: int, nbytes: int
) -> None:
    slot = put(writer, bytes(10))
    with pytest.raises(BadRequestError, match="lies outside the arena"):
        reader.view(changed(slot, offset=offset), nbytes)


@each_backing
def test_closing_twice_does_no_harm(region: SharedRegion) -> None:
    region.close()
    spare = os.open(os.devnull, os.O_RDONLY)  # gets the number of a descriptor that was just closed
    region.close()
    os.fstat(spare)
    os.close(spare)


@each_backing
def test_a_view_in_use_keeps_the_memory_alive(backing: str) -> None:
    region = create_region(backing, SIZE)
    slot, memory = ArenaWriter(1, region).allocate(5)
    memory[:] = b"alive"
    region.close()
    assert (slot.offset, bytes(memory)) == (0, b"alive")


@each_backing
@pytest.mark.parametrize("with_view", [False, True], ids=["no view", "a view in use"])
def test_a_closed_region_keeps_no_descriptor(
    backing: str, with_view: bool, count_descriptors: Callable[[], int]
) -> None:
    before = count_descriptors()
    region = create_region(backing, SIZE)
    view = region.memory[:10] if with_view else None
    region.close()
    del view, region
    assert count_descriptors() == before


@each_backing
def test_an_attached_region_that_nobody_needs_any_more_keeps_no_descriptor(
    region: SharedRegion, count_descriptors: Callable[[], int]
) -> None:
    before = count_descriptors()
    attach(region, SIZE)
    assert count_descriptors() == before


@on_linux
def test_a_name_that_is_gone_already_does_not_hinder_closing(
    count_descriptors: Callable[[], int],
) -> None:
    before = count_descriptors()
    region = create_region(NAMED, SIZE)
    Path("/dev/shm", region.name).unlink()
    region.close()
    del region
    assert count_descriptors() == before


def attach(region: SharedRegion, nbytes: int) -> SharedRegion:
    if region.fd is None:
        return attach_named(region.name, nbytes)
    return attach_memfd(os.dup(region.fd), nbytes)


@each_backing
def test_both_ends_see_the_same_memory(region: SharedRegion) -> None:
    other = attach(region, SIZE)
    slot = put(ArenaWriter(1, region), b"from the one")
    assert bytes(ArenaReader(1, other).view(slot, 12)) == b"from the one"
    other.close()


@each_backing
def test_a_region_smaller_than_announced_is_refused(
    region: SharedRegion, count_descriptors: Callable[[], int]
) -> None:
    before = count_descriptors()
    with pytest.raises(BadRequestError, match="smaller than was announced"):
        attach(region, SIZE * 1000)
    assert count_descriptors() == before


@pytest.mark.parametrize(
    "name",
    ["luna-1-doesnotexist", "", "../../etc/passwd", "/", "a\0b", "x" * 300],
    ids=["missing", "empty", "path", "slash", "NUL", "too long"],
)
def test_a_name_that_is_no_region_is_refused(name: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        attach_named(name, SIZE)
    assert refused.value.message == "A named shared-memory arena cannot be found on this side."


@needs_memfd
@pytest.mark.parametrize("size", [0, SIZE // 2, SIZE * 2], ids=["emptied", "shrunk", "grown"])
def test_the_size_of_a_memfd_cannot_be_changed(size: int) -> None:
    region = create_region(MEMFD, SIZE)
    with pytest.raises(PermissionError):
        os.ftruncate(region.fd, size)
    region.close()


@needs_memfd
def test_the_seals_of_a_memfd_cannot_be_changed() -> None:
    import fcntl

    region = create_region(MEMFD, SIZE)
    with pytest.raises(PermissionError):
        fcntl.fcntl(region.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    region.close()


@needs_memfd
def test_a_memfd_is_not_inherited_by_children() -> None:
    region = create_region(MEMFD, SIZE)
    assert os.get_inheritable(region.fd) is False
    region.close()


def no_room(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@on_linux
def test_too_little_shared_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(RejectedError) as refused:
        create_region(NAMED, 3 * 2**20)
    assert refused.value.message == (
        "There is no room for 3 MB of shared memory (No space left on device)."
    )
    assert "--shm-size" in refused.value.hint


@on_linux
def test_a_region_without_room_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, count_descriptors: Callable[[], int]
) -> None:
    before = count_descriptors()
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(RejectedError):
        create_region(NAMED, SIZE)
    assert count_descriptors() == before


@each_backing
def test_more_memory_than_any_machine_has_is_rejected(
    backing: str, count_descriptors: Callable[[], int]
) -> None:
    before = count_descriptors()
    with pytest.raises(RejectedError, match="There is no room for 4398046511104 MB"):
        create_region(backing, 2**62)
    assert count_descriptors() == before


@on_linux
def test_the_pages_of_a_named_region_are_taken_at_once(region: SharedRegion) -> None:
    assert Path("/dev/shm", region.name).stat().st_blocks * 512 >= SIZE


LOAD = """
    import importlib.util, os, sys
    spec = importlib.util.spec_from_file_location("alias", sys.argv[1])
    alias = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alias)
    alias.load_package()
    from luna_collection.luna_daemon.protocol.segments import Slot
    from luna_collection.luna_daemon.transport import arena
"""
ATTACH = """
    where, offset, generation, nbytes = sys.argv[2], *map(int, sys.argv[3:6])
    size = int(sys.argv[6])
    region = arena.attach_memfd(int(where), size) if where.isdigit() else arena.attach_named(where, size)
    slot = Slot(arena=7, offset=offset, generation=generation)
    view = arena.ArenaReader(7, region).view(slot, nbytes)
    print(bytes(view).decode(), flush=True)
    view[:] = b"and back"
    view.release()
    region.close()
"""
MAKE = """
    region = arena.create_region(arena.NAMED, 65536)
    region.memory[:5] = b"alive"
    print(region.name, flush=True)
    sys.stdin.read()
"""


def program(root: Path, *parts: str) -> list[str]:
    script = "".join(textwrap.dedent(part) for part in parts)
    return [sys.executable, "-c", script, str(root / "luna_daemon" / "package_alias.py")]


def run_attacher(root: Path, region: SharedRegion, slot: Slot, nbytes: int) -> str:
    where = region.name if region.fd is None else str(region.fd)
    done = subprocess.run(
        [
            *program(root, LOAD, ATTACH),
            where,
            *map(str, (slot.offset, slot.generation, nbytes, SIZE)),
        ],
        pass_fds=() if region.fd is None else (region.fd,),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@each_backing
def test_another_process_reads_and_writes_the_same_memory(root: Path, writer: ArenaWriter) -> None:
    slot, memory = writer.allocate(8)
    memory[:] = b"to you  "
    assert run_attacher(root, writer.region, slot, 8) == "to you"
    assert bytes(memory) == b"and back"


def test_the_end_of_an_attacher_leaves_a_named_region_to_its_maker(
    root: Path, writer: ArenaWriter
) -> None:
    slot = put(writer, b"12345678")
    run_attacher(root, writer.region, slot, 8)
    attach_named(writer.region.name, SIZE).close()


@on_linux
def test_the_region_of_a_maker_that_was_killed_is_swept_away(root: Path) -> None:
    maker = subprocess.Popen(
        program(root, LOAD, MAKE),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    name = maker.stdout.readline().strip()
    # The whole group: Python's resource tracker would clean up behind its process.
    os.killpg(maker.pid, signal.SIGKILL)
    maker.communicate(timeout=60)
    assert Path("/dev/shm", name).exists()
    assert name in sweep_orphans(is_alive)
    assert not Path("/dev/shm", name).exists()


@on_linux
def test_the_region_of_a_living_maker_is_not_swept_away(region: SharedRegion) -> None:
    assert region.name not in sweep_orphans(is_alive)
    assert Path("/dev/shm", region.name).exists()


@pytest.fixture
def dead_pid() -> int:
    """The id of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait(60)
    return done.pid


@on_linux
def test_what_cannot_be_swept_away_stays_and_is_not_told(dead_pid: int) -> None:
    folder = Path("/dev/shm", f"luna-{dead_pid}-folder")
    folder.mkdir()
    try:
        assert folder.name not in sweep_orphans(is_alive)
    finally:
        folder.rmdir()


@on_linux
@pytest.mark.parametrize(
    "name", ["luna-x{}-a", "lunatic-{}-a", "luna-{}", "luna-²-{}", "luna--{}"], ids=str
)
def test_memory_of_other_programs_is_not_swept_away(dead_pid: int, name: str) -> None:
    path = Path("/dev/shm", name.format(dead_pid))
    path.touch()
    try:
        assert path.name not in sweep_orphans(lambda pid: pid != dead_pid)
        assert path.exists()
    finally:
        path.unlink()


@pytest.mark.skipif(sys.platform.startswith("linux"), reason="Linux lists names of regions")
def test_where_names_cannot_be_listed_nothing_is_swept() -> None:
    assert sweep_orphans(lambda pid: False) == []


def test_attaching_in_many_threads_leaves_the_region_to_its_maker(region: SharedRegion) -> None:
    barrier = threading.Barrier(8)

    def attach_and_close(_: int) -> None:
        barrier.wait()
        attach_named(region.name, SIZE).close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attach_and_close, range(8)))
    gc.collect()
    attach_named(region.name, SIZE).close()
