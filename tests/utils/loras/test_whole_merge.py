from __future__ import annotations

import pytest
import torch
from luna_collection.utils.loras.merge_math import Blocks, Term, Workspace, add_exact
from luna_collection.utils.loras.whole_merge import Addend, can_merge, merged

from .test_merge_math import DTYPES, SHAPES, ordered, random, term_for

SMALL_BLOCKS = 64 * 1024


def step_by_step(weight: torch.Tensor, terms: list[Term]) -> torch.Tensor:
    work = weight.to(torch.float32, copy=True)
    for term in terms:
        product = torch.mm(term.up, term.down).reshape(weight.shape)
        work += term.scale * product
    return work.to(weight.dtype)


def terms_for(shape: tuple[int, ...], count: int) -> list[Term]:
    ranks = (4, 16, 1, 32, 8, 16, 4)
    return [term_for(shape, 0.3 - seed / 7, seed, ranks[seed]) for seed in range(count)]


def addends(terms: list[Term], *, fast: bool = False) -> list[Addend]:
    return [Addend(term, fast) for term in terms]


@pytest.mark.parametrize("loras", [1, 3, 7])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape", [*SHAPES.values(), (1000, 768), (330, 64, 3, 3)], ids=[*SHAPES, "large", "large conv"]
)
def test_one_pass_rounds_as_the_single_steps_do(shape, dtype, loras):
    weight, terms = random(*shape, seed=1, dtype=dtype), terms_for(shape, loras)
    before = weight.clone()
    assert can_merge(weight, addends(terms))
    found = merged(weight, addends(terms), Workspace(), Blocks(SMALL_BLOCKS))
    assert torch.equal(found, step_by_step(weight, terms))
    assert (found.dtype, found.shape, found.stride()) == (dtype, weight.shape, weight.stride())
    assert torch.equal(weight, before)


@pytest.mark.parametrize("loras", [1, 3, 7])
@pytest.mark.parametrize("shape", [*SHAPES.values(), (1000, 768)], ids=[*SHAPES, "large"])
def test_a_fast_pass_is_off_by_the_last_digit_at_most(shape, loras):
    weight, terms = random(*shape, seed=1, dtype=torch.float16), terms_for(shape, loras)
    exact = step_by_step(weight, terms)
    fast = merged(weight, addends(terms, fast=True), Workspace(), Blocks(SMALL_BLOCKS))
    steps = (ordered(exact) - ordered(fast)).abs()
    assert steps.max() <= 1
    assert (steps > 0).sum() <= 1 + weight.numel() / 1000
    assert not torch.equal(fast, weight)


def test_exact_terms_stay_exact_beside_fast_ones():
    weight, (first, second) = random(96, 64, seed=1), terms_for((96, 64), 2)
    both = [Addend(first, fast=False), Addend(second, fast=True)]
    expected = weight.clone()
    add_exact(expected, first, Workspace())
    expected.addmm_(second.up, second.down, alpha=second.scale)
    assert torch.equal(merged(weight, both, Workspace()), expected)


def test_only_a_block_at_a_time_is_held():
    weight, workspace = random(1000, 768, seed=1, dtype=torch.float16), Workspace()
    merged(weight, addends(terms_for((1000, 768), 3)), workspace, Blocks(SMALL_BLOCKS))
    assert 0 < workspace.nbytes <= 2 * SMALL_BLOCKS


def test_what_one_pass_cannot_do_is_told():
    weight, term = random(96, 64, seed=1), term_for((96, 64))
    other_rows = term_for((48, 128))
    assert can_merge(weight, addends([term]))
    assert other_rows.fits(weight)
    for given, terms in (
        (weight, [term, other_rows]),
        (weight, []),
        (weight.t().contiguous().t(), [term]),
        (weight.to(torch.float8_e4m3fn), [term]),
        (weight[1:], [term]),
        (weight, [term_for((96, 64), dtype=torch.float16)]),
        (weight, [term._replace(up=term.up.t().contiguous().t())]),
    ):
        assert not can_merge(given, addends(terms))
