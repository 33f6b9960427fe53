from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from luna_collection.utils.loras.merge_math import (
    Blocks,
    Term,
    Workspace,
    add_exact,
    add_fast,
    can_add_fast,
)

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
SHAPES = {
    "linear": (96, 64),
    "wide": (64, 257),
    "conv": (32, 16, 3, 3),
    "one row": (1, 64),
    "conv 3d": (8, 4, 2, 3, 3),
}


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (numbers * 0.1).to(dtype)


def term_for(
    shape: tuple[int, ...],
    scale: float = 0.37,
    seed: int = 0,
    rank: int = 4,
    dtype: torch.dtype = torch.float32,
) -> Term:
    rows = shape[0]
    columns = torch.Size(shape).numel() // rows
    up = random(rows, rank, seed=seed + 100, dtype=dtype)
    return Term(up, random(rank, columns, seed=seed + 200, dtype=dtype), scale)


def nothing(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def every_rounding(
    weight: torch.Tensor,
    term: Term,
    function: Callable[[torch.Tensor], torch.Tensor] = nothing,
) -> torch.Tensor:
    """One operation after the other, each with a result of its own."""
    product = torch.mm(term.up, term.down).reshape(weight.shape)
    scaled = term.scale * product
    return weight + function(scaled.to(weight.dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("product_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_an_exact_sum_rounds_as_the_single_operations_do(shape, product_dtype, dtype):
    weight = random(*shape, seed=1, dtype=dtype)
    workspace, expected = Workspace(), weight
    for seed in range(7):
        term = term_for(shape, 0.3 - seed / 7, seed, dtype=product_dtype)
        assert term.fits(weight)
        expected = every_rounding(expected, term)
        add_exact(weight, term, workspace)
    assert torch.equal(weight, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1000, 768), (160, 3072), (320, 64, 3, 3)], ids=str)
def test_blocks_of_rows_change_no_number(shape, dtype):
    weight = random(*shape, seed=1, dtype=dtype)
    workspace, expected, blocks = Workspace(), weight, Blocks(block_bytes=128 * 1024)
    for seed in range(3):
        term = term_for(shape, 0.3 - seed / 7, seed, rank=16)
        expected = every_rounding(expected, term)
        add_exact(weight, term, workspace, blocks=blocks)
    assert torch.equal(weight, expected)


def test_only_products_that_are_equal_are_split(monkeypatch):
    def depends_on_the_shape(up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        return real(up, down) + up.shape[0] / 1000

    blocks, real = Blocks(block_bytes=64 * 1024), torch.mm
    assert blocks.rows_for(96, 4, 64, torch.float32) == 96, "as a whole it is small enough"
    assert blocks.rows_for(64, 4, 2**20, torch.float32) == 64, (
        "not even a few rows are small enough"
    )
    monkeypatch.setattr(torch, "mm", depends_on_the_shape)
    assert blocks.rows_for(1000, 4, 64, torch.float32) == 1000
    monkeypatch.undo()
    assert blocks.rows_for(1000, 4, 64, torch.float32) == 1000, "what was found out is kept"


@pytest.mark.parametrize("dim", [0, 1])
def test_a_part_of_a_weight_can_be_added_to(dim):
    whole = random(96, 64, seed=1)
    untouched = whole.clone()
    part = whole.narrow(dim, 16, 32)
    term = term_for(tuple(part.shape))
    expected = every_rounding(part, term)
    add_exact(part, term, Workspace())
    assert torch.equal(part, expected)
    assert torch.equal(whole.narrow(dim, 48, 16), untouched.narrow(dim, 48, 16))


def test_a_function_sees_what_is_added():
    def halves_swapped(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat(tensor.chunk(2)[::-1])

    weight, term = random(96, 64, seed=1), term_for((96, 64))
    expected = every_rounding(weight, term, halves_swapped)
    add_exact(weight, term, Workspace(), halves_swapped)
    assert torch.equal(weight, expected)


def test_memory_is_used_again_and_bounded():
    workspace = Workspace(max_bytes=4096)
    with workspace.lend(16, 64, torch.float32) as first:
        place = first.data_ptr()
    assert workspace.nbytes == 4096
    with workspace.lend(64, 16, torch.float16) as second:
        assert second.data_ptr() == place
        assert second.shape == (64, 16)
        with workspace.lend(16, 64, torch.float32) as meanwhile:
            assert meanwhile.data_ptr() != place, "nobody else's while it is lent"
    with workspace.lend(17, 64, torch.float32) as large:
        assert large.shape == (17, 64)
    assert workspace.nbytes == 4096, "what is larger than the bound is not kept"
    workspace.free()
    assert workspace.nbytes == 0


def test_memory_of_an_inference_serves_afterwards():
    workspace = Workspace()
    weight, term = random(96, 64, seed=1), term_for((96, 64))
    with torch.inference_mode():
        add_exact(weight.clone(), term, workspace)
    expected = every_rounding(weight, term)
    add_exact(weight, term, workspace)
    assert torch.equal(weight, expected)


@pytest.mark.parametrize("loras", [1, 3, 7])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_fast_sum_is_off_by_the_last_digit_at_most(shape, loras):
    plain = random(*shape, seed=1, dtype=torch.float16)
    exact, fast = plain.float(), plain.float()
    for seed in range(loras):
        term = term_for(shape, 0.3 - seed / 7, seed)
        assert can_add_fast(fast, term)
        add_exact(exact, term, Workspace())
        add_fast(fast, term)
    # Neighbouring numbers of half precision are neighbouring integers, but for the sign.
    steps = (ordered(exact.half()) - ordered(fast.half())).abs()
    assert steps.max() <= 1
    assert (steps > 0).float().mean() < 1e-3
    assert not torch.equal(fast.half(), plain)


def ordered(halves: torch.Tensor) -> torch.Tensor:
    """Half-precision numbers as integers in the same order."""
    bits = halves.view(torch.int16).int()
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)


def test_fast_is_for_single_precision_with_rows():
    term = term_for((96, 64))
    assert can_add_fast(random(192, 64, seed=1).narrow(0, 10, 96), term)
    assert can_add_fast(random(96, 80, seed=1).narrow(1, 10, 64), term)
    assert not can_add_fast(random(96, 64, seed=1, dtype=torch.float16), term)
    assert not can_add_fast(random(96, 8, 16, seed=1).narrow(2, 4, 8), term)
    whole = random(96, 80, seed=1)
    part = whole.narrow(1, 10, 64)
    expected = every_rounding(part, term)
    add_fast(part, term)
    assert torch.allclose(part, expected, atol=1e-6)
    assert torch.equal(whole[:, :10], random(96, 80, seed=1)[:, :10])


def test_what_does_not_fit_is_told():
    weight, term = random(96, 64, seed=1), term_for((96, 64))
    assert term.fits(weight)
    assert not term.fits(weight[1:])
    assert not term._replace(up=term.up[:, 1:]).fits(weight)
    assert not term._replace(up=term.up.half()).fits(weight)
    assert not term.fits(weight.to("meta"))
    assert not term.fits(weight.clone().requires_grad_())
