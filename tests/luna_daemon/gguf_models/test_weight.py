"""A quantised weight behaves as the plain tensor of its values, and its bytes are never copied or changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import gguf
import numpy
import pytest
import torch
from luna_collection.luna_daemon.gguf_models.weight import (
    GgufWeight,
    as_weight,
    in_values,
    weight_of,
)
from torch.nn import functional

ROWS, COLUMNS = 8, 64
Mode = Callable[[], AbstractContextManager[Any]]
# As ComfyUI loads and runs models, as nodes that train do, and one after the other.
MODES: dict[str, tuple[Mode, Mode]] = {
    "inference": (torch.inference_mode, torch.inference_mode),
    "no grad": (torch.no_grad, torch.no_grad),
    "made without inference": (torch.no_grad, torch.inference_mode),
    "made in inference": (torch.inference_mode, torch.no_grad),
}


@pytest.fixture(params=MODES)
def modes(request: pytest.FixtureRequest) -> tuple[Mode, Mode]:
    return MODES[request.param]


@pytest.fixture(autouse=True)
def used(weight: GgufWeight, modes: tuple[Mode, Mode]) -> Iterator[None]:
    """Run a test in the mode in which the weight is used."""
    with modes[1]():
        yield


@pytest.fixture
def plain() -> torch.Tensor:
    return torch.from_numpy(
        numpy.ascontiguousarray(gguf.quants.dequantize(_blocks(), gguf.GGMLQuantizationType.Q8_0))
    )


@pytest.fixture
def weight(modes: tuple[Mode, Mode]) -> GgufWeight:
    with modes[0]():
        raw = torch.from_numpy(_blocks()).view(-1)
        return torch.nn.Parameter(GgufWeight(raw, "Q8_0", (ROWS, COLUMNS)), requires_grad=False)


def _blocks() -> Any:
    numbers = numpy.random.default_rng(1).normal(size=(ROWS, COLUMNS)).astype(numpy.float32)
    return gguf.quants.quantize(numbers, gguf.GGMLQuantizationType.Q8_0)


def test_it_looks_like_a_plain_parameter(weight, plain):
    assert isinstance(weight, torch.nn.Parameter)
    assert isinstance(weight, GgufWeight)
    assert (weight.shape, weight.dtype, weight.device) == (plain.shape, plain.dtype, plain.device)
    assert (weight.numel(), weight.element_size(), weight.is_contiguous()) == (512, 4, True)
    assert weight.nbytes == ROWS * COLUMNS // 32 * 34
    assert "Q8_0" in repr(weight)


@pytest.mark.parametrize(
    "compute",
    [
        lambda w, x: functional.linear(x, w),
        lambda w, x: x @ w.t(),
        lambda w, x: functional.conv2d(x.view(3, 64, 1, 1), w[..., None, None]),
        lambda w, x: w + 1,
        lambda w, x: 2.0 * w,
        lambda w, x: w.view(-1)[5:9],
        lambda w, x: torch.cat([w, w], dim=1),
        lambda w, x: w.to(torch.float16),
        lambda w, x: w.to(torch.float32, copy=True),
        lambda w, x: w.to("cpu", torch.bfloat16, True, True),
        lambda w, x: w.to(torch.zeros(1, dtype=torch.float64)),
        lambda w, x: w.half(),
        lambda w, x: torch.empty(ROWS, COLUMNS).copy_(w),
        lambda w, x: w.norm(),
        lambda w, x: functional.embedding(torch.tensor([[1, 7], [0, 1]]), w),
        lambda w, x: torch.stack([w, w]).sum(0),
    ],
)
def test_whoever_computes_with_it_gets_its_values(weight, plain, compute):
    x = torch.linspace(-1, 1, 3 * COLUMNS).view(3, COLUMNS)
    result, wanted = compute(weight, x), compute(plain, x)
    assert type(result) is torch.Tensor
    assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
    assert torch.equal(result, wanted)


def test_values_in_half_precision_are_rounded_once(weight, plain):
    half = weight.changed(dtype=torch.bfloat16)
    assert torch.equal(half.values(), plain.to(torch.bfloat16))
    assert torch.equal(half.to(torch.float32), plain.to(torch.bfloat16).to(torch.float32))


def test_moving_and_copying_keeps_the_bytes(weight):
    for other in (
        weight.to("cpu"),
        weight.to(device=torch.device("cpu"), copy=True),
        weight.to(dtype=None, copy=True),
        weight.clone(),
        weight.detach(),
        weight.data,
        weight.contiguous(),
        copy.deepcopy(weight),
    ):
        assert isinstance(other, GgufWeight)
        assert other.raw.data_ptr() == weight.raw.data_ptr()
    assert torch.empty_like(weight).shape == weight.shape
    away = weight.to("meta")
    assert (away.device.type, away.kind) == ("meta", "Q8_0")


def test_modules_that_are_moved_keep_it(weight):
    layer = torch.nn.Linear(COLUMNS, ROWS, bias=False)
    layer.weight = weight
    assert isinstance(layer.to("cpu").weight, GgufWeight)
    assert isinstance(layer.state_dict()["weight"], GgufWeight)
    assert isinstance(layer.to("meta").weight, GgufWeight)
    assert layer.weight.device.type == "meta"


def test_steps_are_done_to_the_values(weight, plain):
    changed = weight.changed(steps=(lambda values: values * 2, lambda values: values + 1))
    assert torch.equal(changed.values(), plain * 2 + 1)
    assert torch.equal(changed.clone().to("cpu").values(), plain * 2 + 1)
    index = torch.tensor([3, 0])
    assert torch.equal(changed.rows(index), (plain * 2 + 1)[index])
    assert torch.equal(weight.values(), plain)


@pytest.mark.parametrize(
    "write",
    [
        lambda w: w.mul_(2),
        lambda w: w.zero_(),
        lambda w: w.copy_(torch.zeros(ROWS, COLUMNS)),
        lambda w: w.data.copy_(torch.zeros(ROWS, COLUMNS)),
        lambda w: w.data_ptr(),
        lambda w: torch.add(w, 1, out=w),
        copy.copy,
    ],
)
def test_writing_into_it_is_refused(weight, plain, write):
    with pytest.raises(TypeError, match="quantised"):
        write(weight)
    assert torch.equal(weight.values(), plain)


def test_a_copy_of_itself_is_no_change(weight, modes):
    with modes[0]():  # as it was made: torch lets nobody write into what inference mode has made
        assert weight.copy_(weight.detach()) is weight


def test_types_that_torch_has_are_plain_tensors():
    numbers = torch.arange(12, dtype=torch.float16).view(3, 4)
    raw = numbers.view(-1).view(torch.uint8)
    found = weight_of(raw, "F16", (3, 4))
    assert type(found) is torch.Tensor
    assert torch.equal(found, numbers)
    assert found.data_ptr() == numbers.data_ptr()
    odd = torch.cat([torch.zeros(1, dtype=torch.uint8), raw])[1:]
    assert torch.equal(in_values(weight_of(odd, "F16", (3, 4))), numbers)


def test_plain_tensors_can_wait_for_their_conversion():
    numbers = torch.linspace(0, 1, 12).to(torch.bfloat16).view(3, 4)
    kept = as_weight(numbers, torch.float32)
    assert kept is not None
    assert (kept.dtype, kept.nbytes) == (torch.float32, numbers.nbytes)
    assert torch.equal(kept.values(), numbers.to(torch.float32))
    assert as_weight(numbers.t(), torch.float32) is None
    assert as_weight(numbers.to(torch.int64), torch.float32) is None
