from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize as reference_dequantize
from gguf.quants import quantize as reference_quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.quantization import ggml_library
from luna_collection.utils.quantization.dequantize import dequantize
from luna_collection.utils.quantization.ggml_types import GGML_TYPES
from luna_collection.utils.quantization.quantize import (
    ENCODERS,
    can_quantize,
    fits,
    quantize_rows,
)

SAME_AS_GGUF = ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
K_TYPES = ("Q4_K", "Q5_K", "Q6_K")


def reference(rows: torch.Tensor, kind: str) -> torch.Tensor:
    with np.errstate(all="ignore"):
        made = reference_quantize(rows.float().numpy(), gguf.GGMLQuantizationType[kind])
    return torch.from_numpy(np.ascontiguousarray(made).view(np.uint8))


def random_rows(n: int, k: int, seed: int = 0, spread: float = 0.02) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator) * spread


def uneven_rows(n: int, k: int) -> torch.Tensor:
    """Weights as models have them: columns of different size, and a few that stick out."""
    rows = random_rows(n, k, seed=1) * torch.linspace(0.01, 3, k)
    rows[::7, ::31] *= 20
    rows[1] = rows[1].abs()
    rows[2] = -rows[2].abs()
    rows[3] = 0
    rows[4] = 0.25
    rows[5, : k // 2] = 0
    return rows


@pytest.mark.parametrize("kind", SAME_AS_GGUF)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_simple_types_are_the_bytes_of_the_reference(kind: str, dtype: torch.dtype) -> None:
    for rows in (
        random_rows(33, 4160),
        uneven_rows(16, 320),
        torch.ones(1, 32),
        -torch.ones(1, 32),
    ):
        made = quantize_rows(rows.to(dtype), kind)
        assert torch.equal(made, reference(rows.to(dtype), kind))


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(SAME_AS_GGUF),
    values=st.lists(
        st.floats(-60000, 60000, width=32, allow_subnormal=False).filter(
            lambda v: v == 0 or abs(v) > 1e-30
        ),
        min_size=32,
        max_size=32,
    ),
)
def test_any_numbers_give_the_bytes_of_the_reference(kind: str, values: list[float]) -> None:
    rows = torch.tensor([values])
    assert torch.equal(quantize_rows(rows, kind), reference(rows, kind))


def test_halves_are_rounded_away_from_zero() -> None:
    rows = torch.tensor([[127.0, 0.5, -0.5, 1.5, -1.5, 0.49999997, 2.5, -2.5, *[63.5] * 24]])
    made = quantize_rows(rows, "Q8_0")
    assert made[0, 2:11].view(torch.int8).tolist() == [127, 1, -1, 2, -2, 0, 3, -3, 64]
    assert torch.equal(made, reference(rows, "Q8_0"))


@pytest.mark.parametrize("kind", ENCODERS)
def test_blocks_whose_scale_would_be_subnormal_are_sound(kind: str) -> None:
    rows = torch.full((1, 256), 1e-42)
    rows[0, ::2] *= -1
    decoded = dequantize(quantize_rows(rows, kind), kind, rows.shape)
    assert (decoded.abs() <= 1e-6).all()


@pytest.fixture
def ggml() -> ggml_library.GgmlLibrary:
    library = ggml_library.find()
    assert library is not None  # libggml-python is among the tools for development
    return library


def error(rows: torch.Tensor, raw: torch.Tensor, kind: str) -> float:
    """Return the root mean square error, decoded by the reference."""
    decoded = reference_dequantize(raw.numpy(), gguf.GGMLQuantizationType[kind])
    return float((torch.from_numpy(decoded).view(rows.shape) - rows).square().mean().sqrt())


@pytest.mark.parametrize("kind", K_TYPES)
@pytest.mark.parametrize("make", [random_rows, uneven_rows])
def test_k_types_have_the_quality_of_ggml(
    kind: str, make: object, ggml: ggml_library.GgmlLibrary
) -> None:
    rows = make(64, 2048)  # type: ignore[operator]
    ours = error(rows, quantize_rows(rows, kind), kind)
    theirs = error(rows, ggml.quantize_rows(rows, kind), kind)
    assert theirs > 0
    assert ours <= 1.01 * theirs


@pytest.mark.parametrize("kind", K_TYPES)
def test_most_blocks_of_k_types_are_those_of_ggml(
    kind: str, ggml: ggml_library.GgmlLibrary
) -> None:
    rows = random_rows(64, 2048)
    same = quantize_rows(rows, kind) == ggml.quantize_rows(rows, kind)
    assert same.float().mean() > 0.97


def mean_block_error(rows: torch.Tensor, raw: torch.Tensor, kind: str) -> float:
    """Return the relative error of the average block.

    Not of all blocks together: where a few numbers are far larger than the others, chance in the rounding of
    one scale decides about those.
    """
    blocks = rows.view(-1, 256)
    difference = dequantize(raw, kind, blocks.shape) - blocks
    return float((difference.norm(dim=1) / blocks.norm(dim=1)).mean())


@settings(max_examples=50, deadline=None)
@given(
    kind=st.sampled_from(K_TYPES),
    seed=st.integers(0, 2**32 - 1),
    shift=st.floats(-3, 3),
    spread=st.floats(1e-4, 5),
    power=st.integers(1, 5),
)
def test_k_types_follow_any_distribution(
    kind: str, seed: int, shift: float, spread: float, power: int
) -> None:
    library = ggml_library.find()
    assert library is not None
    rows = (random_rows(32, 1024, seed, 1.0) ** power + shift) * spread
    ours = mean_block_error(rows, quantize_rows(rows, kind), kind)
    theirs = mean_block_error(rows, library.quantize_rows(rows, kind), kind)
    assert ours <= 1.02 * theirs


@pytest.mark.parametrize("kind", ENCODERS)
def test_zeros_stay_zero(kind: str) -> None:
    rows = random_rows(4, 512)
    rows[1] = 0
    rows[2, 256:] = 0
    decoded = dequantize(quantize_rows(rows, kind), kind, rows.shape)
    assert (decoded[1] == 0).all()
    assert (decoded[2, 256:] == 0).all()
    assert (decoded[0] != 0).any()


@pytest.mark.parametrize("kind", K_TYPES)
@pytest.mark.parametrize("value", [0.25, -0.25, 1e-3, -1000.0])
def test_equal_numbers_stay_close(kind: str, value: float) -> None:
    rows = torch.full((1, 256), value)
    decoded = dequantize(quantize_rows(rows, kind), kind, rows.shape)
    assert torch.allclose(decoded, rows, rtol=0.03)


@pytest.mark.parametrize("kind", ["F16", "BF16", *ENCODERS])
def test_rows_may_lie_anywhere(kind: str) -> None:
    rows = random_rows(6, 512)
    whole = quantize_rows(rows, kind)
    assert torch.equal(quantize_rows(rows.t().contiguous().t(), kind), whole)
    assert torch.equal(quantize_rows(rows.repeat(1, 2)[:, :512], kind), whole)
    assert torch.equal(torch.cat([quantize_rows(part, kind) for part in rows.split(4)]), whole)


@pytest.mark.parametrize("kind", ENCODERS)
def test_work_in_pieces_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(5, 2560)
    whole = quantize_rows(rows, kind)
    monkeypatch.setattr("luna_collection.utils.quantization.quantize._CPU_CHUNK", 768)
    assert torch.equal(quantize_rows(rows, kind), whole)


@pytest.mark.parametrize("kind", ["F16", "BF16", *ENCODERS])
def test_no_rows(kind: str) -> None:
    assert quantize_rows(torch.empty(0, 256), kind).shape[0] == 0


@pytest.mark.parametrize("kind", ["F16", "BF16", *ENCODERS, "Q3_K"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused(kind: str, value: float) -> None:
    rows = random_rows(2, 512)
    rows[1, 300] = value
    with pytest.raises(InputError, match=f"infinite or not a number, which {kind} cannot hold"):
        quantize_rows(rows, kind)


@pytest.mark.parametrize("kind", ["F16", *ENCODERS])
def test_what_is_too_large_is_refused(kind: str) -> None:
    rows = random_rows(2, 512)
    rows[1, 300] = -70000
    with pytest.raises(InputError, match=f"7e\\+04, too large for {kind}. Choose BF16"):
        quantize_rows(rows, kind)
    assert torch.equal(
        dequantize(quantize_rows(rows, "BF16"), "BF16", rows.shape), rows.bfloat16().float()
    )


@pytest.mark.parametrize("kind", ggml_library.TYPES)
def test_other_types_are_made_by_ggml(kind: str, ggml: ggml_library.GgmlLibrary) -> None:
    rows = uneven_rows(16, 2048)
    made = quantize_rows(rows, kind)
    assert torch.equal(made, ggml.quantize_rows(rows, kind))
    decoded = dequantize(made, kind, rows.shape)
    assert 0 < float((decoded - rows).norm() / rows.norm()) < 0.5


def test_types_of_ggml_without_ggml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ggml_library, "find", lambda: None)
    assert not can_quantize("Q3_K")
    assert can_quantize("Q4_K")
    with pytest.raises(InputError, match=r"no installed package brings\. Install one that does"):
        quantize_rows(torch.zeros(1, 256), "Q3_K")


def test_what_cannot_be_quantised_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be converted to IQ1_S"):
        quantize_rows(torch.zeros(1, 256), "IQ1_S")
    with pytest.raises(InputError, match="A row of 320 elements"):
        quantize_rows(torch.zeros(2, 320), "Q6_K")
    with pytest.raises(InputError, match=r"not torch\.int32 \[1, 256\]"):
        quantize_rows(torch.zeros(1, 256, dtype=torch.int32), "Q6_K")
    with pytest.raises(InputError, match=r"not torch\.float32 \[256\]"):
        quantize_rows(torch.zeros(256), "Q6_K")


def test_which_rows_fit() -> None:
    assert [kind for kind in GGML_TYPES if fits(kind, 320) and kind in ENCODERS] == [
        kind for kind in ENCODERS if not kind.endswith("_K")
    ]
    assert fits("Q4_K", 512)


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0"])
@pytest.mark.parametrize("first", [-1.0, 1.0])
def test_of_two_largest_numbers_the_first_counts(kind: str, first: float) -> None:
    rows = random_rows(64, 320)
    rows[::2, 5::32], rows[::2, 9::32] = first, -first
    assert torch.equal(quantize_rows(rows, kind), reference(rows, kind))


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K", "Q6_K", "IQ4_XS"])
def test_rows_from_several_threads(kind: str) -> None:
    rows = random_rows(64, 1024)
    whole = quantize_rows(rows, kind)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda part: quantize_rows(part, kind), rows.split(3)))
        assert torch.equal(torch.cat(parts), whole)
        decoded = list(pool.map(lambda raw: dequantize(raw, kind, (len(raw), 1024)), parts))
    assert torch.equal(torch.cat(decoded), dequantize(whole, kind, rows.shape))
