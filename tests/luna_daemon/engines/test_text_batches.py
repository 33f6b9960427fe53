"""Batches are used only where they give what single texts give."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from luna_collection.luna_daemon.engines.hf.text_batches import BatchProofs, Result


class Machine:
    """Encodes numbers, and keeps the sizes of its batches; `wrong` sizes differ in the last bit."""

    def __init__(self, wrong: Sequence[int] = (), too_large: int = 99) -> None:
        self.sizes: list[int] = []
        self.wrong = wrong
        self.too_large = too_large

    def __call__(self, texts: Sequence[int]) -> list[Result]:
        self.sizes.append(len(texts))
        if len(texts) >= self.too_large:
            raise torch.OutOfMemoryError("CUDA out of memory")
        off = 1e-6 if len(texts) in self.wrong else 0.0
        return [(torch.tensor([[float(text) + off]]),) for text in texts]


def values(results: Sequence[Result]) -> list[float]:
    return [result[0].item() for result in results]


def run(proofs: BatchProofs, machine: Machine, count: int, who: str = "k") -> list[float]:
    return values([one for batch in proofs.run((who,), range(count), machine) for one in batch])


def test_the_first_batch_of_a_size_is_computed_both_ways_and_later_ones_once() -> None:
    proofs, machine = BatchProofs(), Machine()
    assert run(proofs, machine, 4) == [0, 1, 2, 3]
    assert machine.sizes == [4, 1, 1, 1, 1]
    machine.sizes.clear()
    assert run(proofs, machine, 4) == [0, 1, 2, 3]
    assert machine.sizes == [4]


def test_a_size_that_differs_is_given_up_and_its_results_are_those_of_single_texts() -> None:
    proofs, machine = BatchProofs(), Machine(wrong=[4])
    assert run(proofs, machine, 4) == [0, 1, 2, 3]
    machine.sizes.clear()
    assert run(proofs, machine, 4) == [0, 1, 2, 3]
    assert 4 not in machine.sizes


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (3, [2, 1]), (7, [4, 2, 1]), (8, [8]), (13, [8, 4, 1])]
)
def test_texts_go_in_the_largest_batches_that_are_proved(count: int, sizes: list[int]) -> None:
    proofs, machine = BatchProofs(), Machine()
    run(proofs, machine, 14)
    machine.sizes.clear()
    assert run(proofs, machine, count) == list(range(count))
    assert machine.sizes == sizes


def test_a_proof_holds_for_its_own_encoders_only_and_goes_with_them() -> None:
    proofs, machine = BatchProofs(), Machine()
    run(proofs, machine, 2)
    machine.sizes.clear()
    run(proofs, machine, 2, who="other")
    assert machine.sizes == [2, 1, 1]
    proofs.forget("k")
    machine.sizes.clear()
    run(proofs, machine, 2)
    assert machine.sizes == [2, 1, 1]


def test_a_batch_without_memory_is_computed_one_by_one() -> None:
    proofs, machine = BatchProofs(), Machine(too_large=4)
    assert run(proofs, machine, 4) == [0, 1, 2, 3]
    assert machine.sizes == [4, 1, 1, 1, 1]


def test_a_batch_is_computed_only_when_it_is_asked_for() -> None:
    machine = Machine()
    batches = BatchProofs().run(("k",), range(10), machine)
    assert len(next(batches)) == 8
    assert sum(size for size in machine.sizes if size > 1) == 8
    assert [len(batch) for batch in batches] == [2]
