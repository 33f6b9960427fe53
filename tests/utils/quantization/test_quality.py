from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.quantization.quality import Quality, compare


def test_error_and_angle_of_a_known_case() -> None:
    quality = compare(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0]))
    assert quality.relative_rmse == pytest.approx(math.sqrt(2) / 5)
    assert quality.cosine == pytest.approx(24 / 25)


def test_the_same_numbers_have_no_error() -> None:
    values = torch.randn(100).bfloat16()
    quality = compare(values, values.float())
    assert (quality.relative_rmse, quality.cosine) == (0.0, pytest.approx(1.0))
    assert compare(values, -values).cosine == pytest.approx(-1.0)


@given(st.integers(1, 999), st.integers(0, 2**31))
def test_pieces_add_up_to_the_whole(cut: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    before = torch.randn(1000, generator=generator)
    after = before + torch.randn(1000, generator=generator) / 10
    whole = compare(before, after)
    pieces = compare(before[:cut], after[:cut]) + compare(before[cut:], after[cut:]) + Quality()
    assert pieces.relative_rmse == pytest.approx(whole.relative_rmse, rel=1e-4)
    assert pieces.cosine == pytest.approx(whole.cosine, rel=1e-5)
    expected = float((after - before).double().norm() / before.double().norm())
    assert whole.relative_rmse == pytest.approx(expected, rel=1e-4)


def test_zeros() -> None:
    zeros = torch.zeros(4)
    assert (compare(zeros, zeros).relative_rmse, compare(zeros, zeros).cosine) == (0.0, 1.0)
    assert compare(zeros, zeros + 1).relative_rmse == math.inf
    assert compare(zeros, zeros + 1).cosine == 0.0
    assert compare(zeros + 1, zeros).relative_rmse == 1.0
    assert Quality().cosine == 1.0


def test_large_numbers_and_any_shape() -> None:
    before = torch.full((2, 3), 1e30)
    quality = compare(before.t(), (before * 1.1).t())
    assert quality.relative_rmse == pytest.approx(0.1, rel=1e-5)
