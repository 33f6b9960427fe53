from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.engines.oom import (
    Job,
    Step,
    attempt,
    free_cached_memory,
    is_out_of_memory,
    plan_steps,
    run_in_steps,
)
from luna_collection.luna_daemon.errors import CanceledError, OutOfMemoryError


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.41 GB)"),
        RuntimeError("Invalid buffer size: 9.00 GB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
    ],
    ids=repr,
)
def test_memory_errors_are_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"),
        ValueError("out of memory"),
        KeyError("x"),
        OutOfMemoryError("ours"),
    ],
    ids=repr,
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_the_real_cpu_allocator_is_recognised() -> None:
    assert attempt(lambda: torch.empty(2**55)) is None


def test_attempt_lets_other_errors_through() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        attempt(lambda: torch.ones(2, 3) @ torch.ones(2, 3))


def test_attempt_lets_go_of_what_the_failed_run_held() -> None:
    held: list[Any] = []

    def run() -> None:
        big = torch.zeros(10)
        held.append(weakref.ref(big))
        raise torch.OutOfMemoryError("no")

    gc.disable()
    try:
        assert attempt(run) is None
        assert held[0]() is None
    finally:
        gc.enable()


def test_freeing_works_on_the_cpu() -> None:
    free_cached_memory("cpu")


@pytest.mark.parametrize(
    ("batch", "side", "smallest", "expected"),
    [
        (1, 100, 8, [(1, None)]),
        (1, 512, 8, [(1, None), (1, 256), (1, 128)]),
        (5, 600, 8, [(5, None), (3, None), (2, None), (1, None), (1, 512), (1, 256), (1, 128)]),
        (2, 1024, 200, [(2, None), (1, None), (1, 512), (1, 256)]),
    ],
)
def test_steps_go_from_the_whole_batch_to_small_tiles(
    batch: int, side: int, smallest: int, expected: list[tuple[int, int | None]]
) -> None:
    assert plan_steps(batch, side, smallest) == tuple(Step(*step) for step in expected)


class FakeDecoder:
    """Doubles [n, 3, h, w]; has room for so many items, or for tiles of so many pixels."""

    def __init__(self, items: float, tile_px: int = 0) -> None:
        self.items, self.tile_px = items, tile_px
        self.calls: list[tuple[int, int | None]] = []

    def __call__(self, batch: torch.Tensor, step: Step, done: int) -> torch.Tensor:
        self.calls.append((len(batch), step.tile_px))
        fits = len(batch) <= self.items if step.tile_px is None else step.tile_px <= self.tile_px
        if not fits:
            raise torch.OutOfMemoryError("no")
        return batch * 2


def job(control: Any, batch: int, side: int = 64) -> Job:
    return Job("Decoding", "cpu", plan_steps(batch, side, 8), control)


def test_a_batch_that_fits_goes_at_once_and_silently(recorder: Any) -> None:
    control, decoder, batch = recorder(), FakeDecoder(8), torch.randn(8, 3, 4, 4)
    assert torch.equal(run_in_steps(batch, job(control, 8), decoder), batch * 2)
    assert decoder.calls == [(8, None)]
    assert control.notes == []


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("room", [1, 2, 3, 4])
def test_halving_gives_the_same_values_in_the_same_layout(
    recorder: Any, room: int, layout: torch.memory_format
) -> None:
    batch = torch.randn(7, 3, 4, 4).contiguous(memory_format=layout)
    control = recorder()
    whole = run_in_steps(batch, job(control, 7), FakeDecoder(7))
    parts = run_in_steps(batch, job(control, 7), FakeDecoder(room))
    assert torch.equal(parts, whole)
    assert parts.stride() == whole.stride()


def test_every_step_down_is_told(recorder: Any) -> None:
    control, decoder = recorder(), FakeDecoder(0, tile_px=256)
    run_in_steps(torch.zeros(3, 3, 4, 4), job(control, 3, side=600), decoder)
    begin = "Decoding did not fit into the memory of 'cpu'; it goes on "
    assert control.notes == [
        begin + "in batches of 2.",
        begin + "one by one.",
        begin + "in tiles of 512 pixels, so the result differs a little.",
        begin + "in tiles of 256 pixels, so the result differs a little.",
    ]
    assert decoder.calls[-3:] == [(1, 256)] * 3


def test_what_is_done_is_not_done_again(recorder: Any) -> None:
    class Shrinking(FakeDecoder):
        """Has room for two items until it has done two."""

        def __call__(self, batch: torch.Tensor, step: Step, done: int) -> torch.Tensor:
            self.items = 2 if done < 2 else 1
            return super().__call__(batch, step, done)

    decoder, batch = Shrinking(2), torch.randn(5, 3, 2, 2)
    assert torch.equal(run_in_steps(batch, job(recorder(), 5), decoder), batch * 2)
    assert [calls for calls, _ in decoder.calls] == [5, 3, 2, 2, 1, 1, 1]


def test_when_nothing_fits_the_error_says_what_and_what_to_do(recorder: Any) -> None:
    control = recorder()
    with pytest.raises(
        OutOfMemoryError, match="Decoding needs more memory than 'cpu' has"
    ) as caught:
        run_in_steps(torch.zeros(2, 3, 4, 4), job(control, 2, side=600), FakeDecoder(0))
    assert "smaller pictures" in caught.value.hint
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert len(control.notes) == 4


def test_other_errors_stop_at_once(recorder: Any) -> None:
    def fail(batch: torch.Tensor, step: Step, done: int) -> torch.Tensor:
        raise RuntimeError("shapes")

    control = recorder()
    with pytest.raises(RuntimeError, match="shapes"):
        run_in_steps(torch.zeros(2, 3, 4, 4), job(control, 2), fail)
    assert control.notes == []


def test_cancel_takes_effect_between_parts(recorder: Any) -> None:
    decoder = FakeDecoder(1)
    with pytest.raises(CanceledError):
        run_in_steps(torch.zeros(4, 3, 4, 4), job(recorder(cancel_at=4), 4), decoder)
    assert decoder.calls == [(4, None), (2, None), (1, None), (1, None)]
