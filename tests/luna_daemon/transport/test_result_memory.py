"""Memory of results: it is used again, and never while anything looks into it."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from luna_collection.luna_daemon.errors import OutOfMemoryError
from luna_collection.luna_daemon.protocol.segments import Segment
from luna_collection.luna_daemon.transport import result_memory
from luna_collection.luna_daemon.transport.arena import (
    MEMFD,
    NAMED,
    ArenaReader,
    ArenaWriter,
    create_region,
    has_memfd,
)
from luna_collection.luna_daemon.transport.result_memory import MIN_BYTES, ResultMemory
from luna_collection.luna_daemon.transport.tensors import pack, unpack

MB = 2**20
SIZE = MIN_BYTES + 1000


@pytest.fixture
def memory() -> ResultMemory:
    return ResultMemory()


def tensor_in(memory: ResultMemory, nbytes: int = SIZE) -> torch.Tensor:
    return torch.frombuffer(memory.take(nbytes), dtype=torch.uint8)


def test_memory_is_used_again_once_its_tensor_is_gone(memory: ResultMemory) -> None:
    tensor = tensor_in(memory)
    place = tensor.data_ptr()
    assert memory.kept_bytes == 0
    del tensor
    assert memory.kept_bytes >= SIZE
    again = tensor_in(memory)
    assert (again.data_ptr(), len(again), memory.kept_bytes) == (place, SIZE, 0)


LOOKS = {
    "the tensor": lambda tensor: tensor,
    "a part of it": lambda tensor: tensor[1000:1010],
    "a view of another type": lambda tensor: tensor[:8].view(torch.float32),
    "an array": lambda tensor: tensor.numpy(),
    "a part of an array": lambda tensor: tensor.numpy()[5:6],
    "a storage": lambda tensor: tensor.untyped_storage(),
    "a detached tensor": lambda tensor: tensor.detach(),
    "a capsule": lambda tensor: torch.utils.dlpack.to_dlpack(tensor),
    "a memoryview of an array": lambda tensor: memoryview(tensor.numpy()),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_memory_that_something_looks_into_is_not_given_out(memory: ResultMemory, look) -> None:
    tensor = tensor_in(memory)
    place = tensor.data_ptr()
    kept = look(tensor)
    del tensor
    gc.collect()
    assert (memory.kept_bytes, tensor_in(memory).data_ptr() == place) == (0, False)
    del kept
    gc.collect()
    assert memory.kept_bytes >= 2 * SIZE


def test_only_so_much_is_kept_and_the_oldest_goes_first() -> None:
    memory = ResultMemory(keep_bytes=2 * (SIZE + 2 * MB))
    tensors = [tensor_in(memory) for _ in range(3)]
    places = [tensor.data_ptr() for tensor in tensors]
    for _ in range(3):
        del tensors[0]
    assert memory.kept_bytes <= 2 * (SIZE + 2 * MB)
    again = {tensor.data_ptr() for tensor in (tensor_in(memory), tensor_in(memory))}
    assert again <= set(places[1:])


def test_what_is_larger_than_all_that_is_kept_is_not_kept() -> None:
    memory = ResultMemory(keep_bytes=MIN_BYTES)
    tensor = tensor_in(memory)
    del tensor
    assert memory.kept_bytes == 0


@pytest.mark.parametrize(("nbytes", "fits"), [(SIZE // 3, False), (SIZE, True), (2 * SIZE, False)])
def test_a_piece_is_used_for_what_fills_most_of_it(
    memory: ResultMemory, nbytes: int, fits: bool
) -> None:
    first = memory.take(SIZE)
    del first
    second = memory.take(nbytes)
    assert (memory.kept_bytes == 0, len(second)) == (fits, nbytes)


def test_the_smallest_piece_that_fits_is_taken(memory: ResultMemory) -> None:
    large, small = memory.take(SIZE + 8 * MB), memory.take(SIZE)
    del large, small
    taken = memory.take(SIZE)
    assert (len(taken), memory.kept_bytes) == (SIZE, -(-(SIZE + 8 * MB) // (2 * MB)) * 2 * MB)


def test_a_closed_memory_keeps_nothing_and_its_tensors_live_on(memory: ResultMemory) -> None:
    kept, tensor = memory.take(SIZE), tensor_in(memory)
    del kept
    memory.close()
    assert memory.kept_bytes == 0
    tensor.fill_(7)
    assert int(tensor.sum()) == 7 * SIZE
    del tensor
    assert memory.kept_bytes == 0


def test_a_tensor_outlives_the_memory_it_came_from() -> None:
    tensor = tensor_in(ResultMemory())
    gc.collect()
    tensor.fill_(3)
    assert int(tensor[-1]) == 3


def test_a_piece_that_comes_back_while_the_lock_is_held_is_let_go(memory: ResultMemory) -> None:
    tensor = tensor_in(memory)
    with memory._lock:  # as when garbage is collected inside `take`, or in a forked child
        del tensor
        assert len(memory.take(SIZE)) == SIZE
    assert memory.kept_bytes == 0


def test_threads_never_get_the_same_memory(memory: ResultMemory) -> None:
    faults: list[int] = []

    def use(number: int) -> None:
        for _ in range(30):
            tensor = tensor_in(memory)
            ends = tensor[:: len(tensor) - 1]
            ends.fill_(number)
            if int(ends.sum()) != 2 * number:
                faults.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def _overwrite(memory: ResultMemory, tensor: torch.Tensor) -> None:
    tensor.fill_(9)
    del tensor
    assert len(memory.take(SIZE)) == SIZE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks by default")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_forked_child_writes_stays_with_it(memory: ResultMemory) -> None:
    tensor = tensor_in(memory)
    tensor.fill_(1)
    child = multiprocessing.get_context("fork").Process(target=_overwrite, args=(memory, tensor))
    child.start()
    child.join()
    assert (child.exitcode, int(tensor.sum())) == (0, SIZE)


def test_a_machine_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(result_memory.mmap, "mmap", refuse)
    with pytest.raises(OutOfMemoryError, match="for a result of 32 MB"):
        ResultMemory().take(SIZE)


@pytest.fixture
def arena() -> Iterator[tuple[ArenaWriter, ArenaReader]]:
    region = create_region(MEMFD if has_memfd() else NAMED, 2 * MIN_BYTES)
    yield ArenaWriter(1, region), ArenaReader(1, region)
    region.close()


def sent(writer: ArenaWriter, tensor: torch.Tensor) -> tuple[Segment, ...]:
    segments, payloads = pack([tensor], writer)
    assert not payloads
    return segments


def test_a_large_result_is_copied_into_it_and_a_small_one_is_not(
    memory: ResultMemory, arena: tuple[ArenaWriter, ArenaReader]
) -> None:
    writer, reader = arena
    large = torch.rand(2, MIN_BYTES // 8, 1).permute(1, 0, 2)
    small = torch.rand(MB)
    segments = sent(writer, large) + sent(writer, small)
    results = unpack(segments, (), {1: reader}, memory)
    assert [torch.equal(*pair) for pair in zip(results, (large, small), strict=True)] == [True] * 2
    assert results[0].stride() == large.stride()
    results[0].add_(1)
    assert torch.equal(results[0], large + 1)
    results.clear()
    assert MIN_BYTES <= memory.kept_bytes < MIN_BYTES + 4 * MB
