from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.luna_daemon.errors import BadRequestError
from luna_collection.luna_daemon.protocol.segments import (
    ITEM_SIZE,
    Segment,
    Slot,
    check_segment,
    inline_bytes,
)
from luna_collection.luna_daemon.transport.arena import (
    NAMED,
    ArenaReader,
    ArenaWriter,
    create_region,
)
from luna_collection.luna_daemon.transport.tensors import ARENA_MIN_BYTES, pack, unpack

LARGE = ARENA_MIN_BYTES // 4  # float32 elements of the smallest tensor that goes through an arena


class Arena:
    """Both ends of one arena in this process."""

    def __init__(self, nbytes: int) -> None:
        self.region = create_region(NAMED, nbytes)
        self.writer = ArenaWriter(5, self.region)
        self.readers = {5: ArenaReader(5, self.region)}


@pytest.fixture
def arena() -> Iterator[Arena]:
    """An arena of 1 MiB."""
    made = Arena(2**20)
    yield made
    made.region.close()


def received(data: memoryview) -> memoryview:
    """Copy a payload as a socket does, into memory of the receiver's own."""
    return memoryview(bytearray(data))


def there_and_back(*tensors: torch.Tensor, through: Arena | None = None) -> list[torch.Tensor]:
    segments, payloads = pack(tensors, through.writer if through else None)
    for segment in segments:
        check_segment(segment)
    assert sum(map(len, payloads)) == inline_bytes(segments)
    return unpack(segments, [received(p) for p in payloads], through.readers if through else None)


def bits(tensor: torch.Tensor) -> list[int]:
    plain = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
    return plain.reshape(-1).view(torch.uint8).tolist()


def assert_same(result: torch.Tensor, tensor: torch.Tensor) -> None:
    assert (result.dtype, result.shape) == (tensor.dtype, tensor.shape)
    assert bits(result) == bits(tensor)


def random_tensor(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """A tensor of random bytes; NaNs and odd values are wanted."""
    if dtype is torch.bool:
        return torch.rand(shape) < 0.5
    count = torch.empty(shape).numel() * dtype.itemsize
    return torch.randint(0, 256, (count,), dtype=torch.uint8).view(dtype).reshape(shape)


DTYPES = {name: getattr(torch, name) for name in ITEM_SIZE}
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())


@every_dtype
def test_the_table_of_element_sizes_is_torchs(dtype: torch.dtype) -> None:
    assert ITEM_SIZE[str(dtype).removeprefix("torch.")] == dtype.itemsize


@every_dtype
@pytest.mark.parametrize("dims", range(6))
def test_every_type_travels_in_the_frame(dtype: torch.dtype, dims: int) -> None:
    tensor = random_tensor(dtype, *(2, 3, 1, 4, 2)[:dims])
    assert_same(there_and_back(tensor)[0], tensor)


@every_dtype
def test_every_type_travels_through_an_arena(dtype: torch.dtype, arena: Arena) -> None:
    tensor = random_tensor(dtype, 2, ARENA_MIN_BYTES)
    assert_same(there_and_back(tensor, through=arena)[0], tensor)


@pytest.mark.parametrize(
    "shape",
    [(0,), (0, 4), (4, 0), (2, 0, 3), (0, 0), (1, 0, 1, 5), (0, 2**46), (2**23, 0, 2**23)],
    ids=str,
)
def test_a_tensor_without_elements_keeps_its_shape(shape: tuple[int, ...]) -> None:
    result = there_and_back(torch.empty(shape, dtype=torch.float16))[0]
    assert (result.shape, result.dtype) == (torch.Size(shape), torch.float16)


def test_several_tensors_keep_their_order() -> None:
    tensors = [torch.arange(n, dtype=torch.int64) for n in (3, 0, 5)]
    assert [t.tolist() for t in there_and_back(*tensors)] == [t.tolist() for t in tensors]


def test_no_tensors_are_no_segments() -> None:
    assert pack([]) == ((), [])


@pytest.mark.parametrize("through_arena", [False, True], ids=["inline", "arena"])
def test_the_payload_bits_of_a_nan_stay(arena: Arena, through_arena: bool) -> None:
    patterns = torch.tensor([0x7FC00001, 0x7F800001, -0x3FFFFF, 0x7FFFFFFF], dtype=torch.int32)
    tensor = patterns.repeat(LARGE).view(torch.float32)
    result = there_and_back(tensor, through=arena if through_arena else None)[0]
    assert torch.equal(result.view(torch.int32), tensor.view(torch.int32))


def test_a_negative_zero_stays_negative() -> None:
    assert bits(there_and_back(torch.tensor([-0.0]))[0]) == bits(torch.tensor([-0.0]))


IMAGE = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)


def channels_last(*shape: int) -> torch.Tensor:
    return torch.empty(shape, memory_format=torch.channels_last).copy_(torch.rand(shape))


DENSE = {
    "contiguous": IMAGE,
    "scalar": torch.tensor(3.5),
    "channels last": IMAGE.to(memory_format=torch.channels_last),
    "channels last of one channel": channels_last(2, 1, 4, 5),
    "channels last of one pixel": channels_last(2, 3, 1, 1),
    "channels last of one row": channels_last(2, 3, 1, 5),
    "channels last of one image": channels_last(1, 3, 4, 5),
    "channels last of one image of one channel": channels_last(1, 1, 4, 5),
    "channels last of a video": torch.rand(1, 2, 3, 4, 5).to(memory_format=torch.channels_last_3d),
    "transposed": torch.rand(3, 7).t(),
    "transposed column": torch.rand(7, 1).t(),
    "turned round": IMAGE.permute(3, 2, 1, 0),
    "whole rows of a larger tensor": torch.rand(9, 4)[2:5],
    "sizes of one everywhere": torch.rand(1, 1, 1, 1),
    "sizes of one between": torch.rand(2, 1, 3, 1).permute(2, 1, 0, 3),
    "a new dimension in front": torch.rand(3, 4).t().unsqueeze(0),
    "a new dimension at the end": torch.rand(3, 4).unsqueeze(-1),
    **{
        f"order {order}": torch.rand(2, 3, 4).permute(order)
        for order in itertools.permutations(range(3))
    },
}
every_dense_layout = pytest.mark.parametrize("tensor", DENSE.values(), ids=DENSE.keys())


@every_dense_layout
def test_a_dense_layout_stays(tensor: torch.Tensor) -> None:
    result = there_and_back(tensor)[0]
    assert torch.equal(result, tensor)
    assert result.stride() == tensor.stride()


@every_dense_layout
def test_a_dense_layout_stays_through_an_arena(tensor: torch.Tensor, arena: Arena) -> None:
    count = -(-LARGE // tensor.numel())
    batch = torch.empty_strided((count, *tensor.size()), (tensor.numel(), *tensor.stride()))
    batch.copy_(torch.rand(batch.shape))
    result = there_and_back(batch, through=arena)[0]
    assert torch.equal(result, batch)
    assert (result.stride(), arena.writer.used_bytes > 0) == (batch.stride(), True)


@pytest.mark.parametrize("channels", [1, 3])
def test_torch_still_takes_it_for_channels_last(channels: int) -> None:
    image = channels_last(2, channels, 8, 8)
    kernel = torch.nn.Conv2d(channels, 4, 3)
    assert kernel(there_and_back(image)[0]).stride() == kernel(image).stride()


HOLES = {
    "every other row": IMAGE[:, :, ::2],
    "every other column": IMAGE[..., ::2],
    "a crop": IMAGE[:, :, 1:3, 1:4],
    "a crop of channels last": IMAGE.to(memory_format=torch.channels_last)[:, :, 1:3, 1:4],
    "one channel": IMAGE[:, 1],
    "a diagonal": torch.rand(5, 5).diagonal(),
    "expanded": torch.rand(3, 1).expand(3, 4),
    "expanded scalar": torch.tensor(2.0).expand(3, 4),
    "expanded in front": torch.rand(3).expand(2, 3),
    "overlapping windows": torch.arange(6.0).unfold(0, 3, 1),
}


@pytest.mark.parametrize("tensor", HOLES.values(), ids=HOLES.keys())
def test_a_layout_with_holes_or_overlaps_becomes_what_torch_makes_of_it(
    tensor: torch.Tensor,
) -> None:
    result = there_and_back(tensor)[0]
    assert torch.equal(result, tensor)
    assert result.stride() == tensor.clone().stride()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(4, 4)[1:2, 1::4],
        torch.rand(8)[3:4:2],
        torch.rand(8)[::2][:0],
        torch.rand(1, 6)[:, ::7],
        torch.rand(2, 1, 6)[1:, :, 5:],
    ],
    ids=["a pixel of a picture", "an element", "no element", "a column", "a corner"],
)
def test_a_single_element_of_a_larger_tensor_can_be_sent(tensor: torch.Tensor) -> None:
    assert torch.equal(there_and_back(tensor)[0], tensor)


@pytest.mark.parametrize("values", [[1 + 2j], [1 + 2j, 3 - 4j]], ids=["dense", "with holes"])
def test_a_lazily_negated_tensor_is_sent_negated(values: list[complex]) -> None:
    lazy = torch.tensor(values).conj().imag
    assert lazy.is_neg()
    assert there_and_back(lazy)[0].tolist() == [-value.imag for value in values]


def test_a_tensor_that_wants_gradients_is_sent_without() -> None:
    result = there_and_back(torch.ones(3, requires_grad=True) * 2)[0]
    assert (result.tolist(), result.requires_grad) == ([2.0] * 3, False)


layouts = st.integers(0, 5).flatmap(
    lambda dims: st.tuples(
        st.lists(st.integers(0, 4), min_size=dims, max_size=dims),
        st.permutations(range(dims)),
        st.sampled_from(sorted(DTYPES)),
        st.randoms(use_true_random=False),
    )
)


@settings(deadline=None, max_examples=150)
@given(layouts)
def test_any_dense_tensor_comes_back_bit_for_bit_with_its_layout(case):
    shape, order, dtype, random = case
    torch.manual_seed(random.randrange(2**31))
    tensor = random_tensor(DTYPES[dtype], *shape).permute(order)
    result = there_and_back(tensor)[0]
    assert_same(result, tensor)
    if tensor.numel() and 1 not in shape:
        assert result.stride() == tensor.stride()


@settings(deadline=None, max_examples=100)
@given(layouts, st.lists(st.integers(1, 3), min_size=5, max_size=5))
def test_any_strided_tensor_comes_back_bit_for_bit(case, steps):
    shape, order, dtype, random = case
    torch.manual_seed(random.randrange(2**31))
    tensor = random_tensor(DTYPES[dtype], *shape).permute(order)
    tensor = tensor[tuple(slice(None, None, step) for step in steps[: tensor.dim()])]
    assert_same(there_and_back(tensor)[0], tensor)


def test_a_large_tensor_goes_through_the_arena(arena: Arena) -> None:
    segments, payloads = pack([torch.rand(LARGE)], arena.writer)
    assert (segments[0].slot.arena, payloads) == (5, [])


def test_a_small_tensor_stays_in_the_frame(arena: Arena) -> None:
    segments, payloads = pack([torch.rand(LARGE - 1)], arena.writer)
    assert (segments[0].slot, len(payloads), arena.writer.used_bytes) == (None, 1, 0)


def test_without_an_arena_a_large_tensor_stays_in_the_frame() -> None:
    segments, payloads = pack([torch.rand(LARGE)])
    assert (segments[0].slot, len(payloads[0])) == (None, ARENA_MIN_BYTES)


def test_what_finds_no_room_in_the_arena_goes_into_the_frame(arena: Arena) -> None:
    tensors = [torch.rand(LARGE * n) for n in (8, 9, 4)]
    segments, payloads = pack(tensors, arena.writer)
    assert [s.slot is None for s in segments] == [False, True, False]
    result = unpack(segments, [received(p) for p in payloads], arena.readers)
    assert [torch.equal(a, b) for a, b in zip(result, tensors, strict=True)] == [True] * 3


def test_a_segment_that_cannot_be_sent_takes_no_room_in_the_arena(arena: Arena) -> None:
    with pytest.raises(BadRequestError):
        pack([torch.rand(LARGE), torch.eye(3).to_sparse()], arena.writer)
    assert arena.writer.used_bytes == 0


def test_a_result_is_not_changed_by_what_happens_in_the_arena_later(arena: Arena) -> None:
    tensor = torch.rand(LARGE)
    segments, _ = pack([tensor], arena.writer)
    result = unpack(segments, [], arena.readers)[0]
    arena.region.memory[:] = b"\xff" * arena.region.nbytes
    assert torch.equal(result, tensor)


def test_a_result_outlives_the_arena() -> None:
    arena = Arena(2**20)
    tensor = torch.rand(LARGE)
    result = there_and_back(tensor, through=arena)[0]
    arena.region.close()
    assert torch.equal(result, tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool], ids=str)
def test_a_result_may_be_written(dtype: torch.dtype) -> None:
    tensor = torch.ones(4, dtype=dtype)
    result = there_and_back(tensor)[0]
    result.zero_()
    assert (result.sum().item(), tensor.sum().item()) == (0, 4)


def test_results_share_no_memory_with_each_other(arena: Arena) -> None:
    same = torch.ones(LARGE)
    one, two = there_and_back(same, same, through=arena)
    one.zero_()
    assert torch.equal(two, same)


UNSENDABLE = {
    "sparse": torch.eye(3).to_sparse(),
    "complex": torch.zeros(2, dtype=torch.complex64),
    "conjugated": torch.zeros(2, dtype=torch.complex64).conj(),
    "unsigned 16 bit": torch.zeros(2, dtype=torch.uint16),
    "on no device": torch.empty(2, device="meta"),
}


@pytest.mark.parametrize("tensor", UNSENDABLE.values(), ids=UNSENDABLE.keys())
def test_what_has_no_plain_memory_is_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(BadRequestError, match="cannot be sent to another process"):
        pack([tensor])


@pytest.mark.filterwarnings("ignore:.*quantiz.*")
def test_a_quantised_tensor_is_refused() -> None:
    try:
        tensor = torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8)
    except (RuntimeError, AttributeError) as error:
        pytest.skip(f"this torch makes no quantised tensors: {error}")
    with pytest.raises(BadRequestError, match="cannot be sent to another process"):
        pack([tensor])


def one_segment(dtype: str = "uint8", nbytes: int = 4, slot: Slot | None = None) -> Segment:
    return Segment(dtype=dtype, shape=(nbytes,), order=(0,), nbytes=nbytes, slot=slot)


def test_bytes_that_are_no_truth_values_become_true() -> None:
    payload = received(memoryview(bytes([0, 1, 2, 255])))
    result = unpack([one_segment("bool")], [payload])[0]
    assert result.view(torch.uint8).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("known", [False, True], ids=["no arenas", "another arena"])
def test_a_segment_in_an_unknown_arena_is_refused(arena: Arena, known: bool) -> None:
    segment = one_segment(slot=Slot(arena=6, offset=0, generation=1))
    with pytest.raises(BadRequestError, match="not shared with this side"):
        unpack([segment], [], arena.readers if known else None)


def test_a_segment_in_a_slot_that_was_used_anew_is_refused(arena: Arena) -> None:
    segments, _ = pack([torch.rand(LARGE)], arena.writer)
    arena.writer.free(segments[0].slot.offset, segments[0].slot.generation)
    pack([torch.rand(LARGE)], arena.writer)
    with pytest.raises(BadRequestError, match="was replaced before it was read"):
        unpack(segments, [], arena.readers)


def test_a_slot_that_is_used_anew_while_it_is_copied_is_noticed(arena: Arena) -> None:
    class Overtaken(ArenaReader):
        """A reader whose slot is used anew between looking at it and copying it."""

        def view(self, slot: Slot, nbytes: int) -> memoryview:
            view = super().view(slot, nbytes)
            arena.writer.free(slot.offset, slot.generation)
            pack([torch.zeros(LARGE)], arena.writer)
            return view

    segments, _ = pack([torch.ones(LARGE)], arena.writer)
    with pytest.raises(BadRequestError, match="was replaced before it was read"):
        unpack(segments, [], {5: Overtaken(5, arena.region)})


def test_a_segment_outside_its_arena_is_refused(arena: Arena) -> None:
    segment = one_segment(slot=Slot(arena=5, offset=2**20, generation=1))
    with pytest.raises(BadRequestError, match="lies outside the arena"):
        unpack([segment], [], arena.readers)
