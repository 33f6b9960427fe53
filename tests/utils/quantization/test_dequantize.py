from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.quantization.dequantize import DECODERS, can_dequantize, dequantize
from luna_collection.utils.quantization.ggml_types import GGML_TYPES, row_bytes
from luna_collection.utils.quantization.iq_patterns import PATTERNS

FLOATS = ("F32", "F16", "BF16")
NOT_WEIGHTS = {"Q8_1", "Q8_K", "Q1_0"}  # activations, and what has no reference


def random_bytes(kind: str, rows: int, blocks: int, seed: int = 0) -> np.ndarray:
    count = GGML_TYPES[kind].block_bytes * blocks
    return np.random.default_rng(seed).integers(0, 256, (rows, count), dtype=np.uint8)


def reference_of(raw: np.ndarray, kind: str) -> torch.Tensor:
    with np.errstate(all="ignore"):
        return torch.from_numpy(reference(raw, gguf.GGMLQuantizationType[kind]).astype(np.float32))


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal in every bit, but for the payload of what is not a number."""
    return (
        one.dtype == other.dtype
        and torch.equal(one.isnan(), other.isnan())
        and torch.equal(
            torch.where(one.isnan(), 0, one).view(torch.uint8),
            torch.where(other.isnan(), 0, other).view(torch.uint8),
        )
    )


def test_the_types_are_those_of_the_reference() -> None:
    theirs = {
        kind.name: (int(kind), *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType
    }
    assert {name: tuple(entry) for name, entry in GGML_TYPES.items()} == theirs
    assert {name for name in GGML_TYPES if not can_dequantize(name)} == NOT_WEIGHTS


@pytest.mark.parametrize("kind", [*FLOATS, *DECODERS])
def test_every_type_is_equal_to_the_reference_on_random_bytes(kind: str) -> None:
    raw = random_bytes(kind, 7, 331)
    ours = dequantize(torch.from_numpy(raw), kind, (7, 331 * GGML_TYPES[kind].block))
    assert same(ours, reference_of(raw, kind))


@pytest.mark.parametrize("kind", PATTERNS)
def test_every_pattern_is_that_of_the_reference(kind: str) -> None:
    theirs = gguf.quants._type_traits[gguf.GGMLQuantizationType[kind]]
    theirs.init_grid()
    length = PATTERNS[kind].length
    from luna_collection.utils.quantization.iq_patterns import patterns

    table = patterns(kind, torch.device("cpu")).view(torch.int8).view(-1, 8)[:, :length]
    assert theirs.grid is not None
    assert torch.equal(table.float(), torch.from_numpy(theirs.grid[0, 0]))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(DECODERS)),
    rows=st.integers(1, 4),
    blocks=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_shapes_and_bytes_of_any_kind(kind: str, rows: int, blocks: int, seed: int) -> None:
    raw = random_bytes(kind, rows, blocks, seed)
    ours = dequantize(torch.from_numpy(raw), kind, (rows, blocks * GGML_TYPES[kind].block))
    assert same(ours, reference_of(raw, kind))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_K", "Q6_K", "IQ3_S"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_the_fp32_result_rounded_once(kind: str, dtype: torch.dtype) -> None:
    raw = torch.from_numpy(random_bytes(kind, 5, 300))
    shape = (5, 300 * GGML_TYPES[kind].block)
    ours = dequantize(raw, kind, shape, dtype)
    assert same(ours, dequantize(raw, kind, shape).to(dtype))


@pytest.mark.parametrize("kind", [*FLOATS, "Q8_0", "Q4_0", "MXFP4", "Q4_K", "IQ1_M"])
def test_bytes_may_lie_anywhere(kind: str) -> None:
    raw = random_bytes(kind, 4, 9)
    shape = (4, 9 * GGML_TYPES[kind].block)
    expected = reference_of(raw, kind)
    unaligned = torch.empty(raw.size + 1, dtype=torch.uint8)[1:]
    unaligned.copy_(torch.from_numpy(raw).view(-1))
    strided = torch.from_numpy(np.repeat(raw, 2, axis=1))[:, ::2]
    assert same(dequantize(unaligned, kind, shape), expected)
    assert same(dequantize(strided, kind, shape), expected)


@pytest.mark.parametrize("kind", [*FLOATS, *DECODERS])
def test_everything_happens_on_the_device_of_the_bytes(kind: str) -> None:
    # `meta` takes no part in operations with tensors of another device, and stands here for a GPU.
    raw = torch.from_numpy(random_bytes(kind, 2, 3)).to("meta")
    shape = (2, 3 * GGML_TYPES[kind].block)
    made = dequantize(raw, kind, shape, torch.float16)
    assert (made.device.type, made.shape, made.dtype) == ("meta", shape, torch.float16)


def test_one_block_at_an_odd_place() -> None:
    raw = random_bytes("Q8_0", 1, 1)
    odd = torch.cat([torch.zeros(1, dtype=torch.uint8), torch.from_numpy(raw)[0]])[1:]
    assert same(dequantize(odd, "Q8_0", (1, 32)), reference_of(raw, "Q8_0"))


@pytest.mark.parametrize("kind", ["F32", "Q4_0", "Q5_K"])
def test_any_shape_with_that_many_elements(kind: str) -> None:
    raw = torch.from_numpy(random_bytes(kind, 3, 256 * 8 // GGML_TYPES[kind].block))
    flat = dequantize(raw, kind, (3, 2048))
    assert same(dequantize(raw, kind, (3, 8, 16, 16)), flat.view(3, 8, 16, 16))
    empty = torch.empty(0, dtype=torch.uint8)
    assert dequantize(empty, kind, (0, 256)).shape == (0, 256)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("I8", torch.int8), ("I64", torch.int64), ("F64", torch.float64)]
)
def test_plain_types_are_read_as_they_are(kind: str, dtype: torch.dtype) -> None:
    values = torch.tensor([-3, 0, 7], dtype=dtype)
    assert torch.equal(dequantize(values.view(torch.uint8), kind, (3,)), values.float())


def test_the_result_does_not_share_memory_with_the_bytes() -> None:
    values = torch.ones(4)
    result = dequantize(values.view(torch.uint8), "F32", (4,))
    result.zero_()
    assert values.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("count", "kind", "shape", "what"),
    [
        (34, "Q8_0", (33,), "not the bytes of a Q8_0 tensor"),
        (33, "Q8_0", (32,), "not the bytes of a Q8_0 tensor"),
        (34, "Q8_0", (64,), "not the bytes of a Q8_0 tensor"),
        (36, "Q8_1", (32,), "Weights stored as Q8_1 cannot be used"),
        (36, "Q9_9", (32,), "There is no GGUF element type 'Q9_9'"),
    ],
)
def test_what_does_not_fit_is_refused(
    count: int, kind: str, shape: tuple[int, ...], what: str
) -> None:
    with pytest.raises(InputError, match=what):
        dequantize(torch.zeros(count, dtype=torch.uint8), kind, shape)


def test_a_row_is_whole_blocks() -> None:
    assert row_bytes("Q4_K", 512) == 288
    assert row_bytes("BF16", 3) == 6
    with pytest.raises(
        InputError, match="A row of 320 elements is not a whole number of Q4_K's blocks"
    ):
        row_bytes("Q4_K", 320)
    assert GGML_TYPES["Q4_K"].bits_per_weight == 4.5
