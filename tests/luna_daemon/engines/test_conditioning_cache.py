from __future__ import annotations

import threading

import pytest
import torch
from luna_collection.luna_daemon.engines.conditioning_cache import CacheKey, ConditioningCache
from luna_collection.luna_daemon.engines.engine import CacheCounts


def key(number: int, *models: str) -> CacheKey:
    return CacheKey(models or ("clip",), ((number,),))


def entry(value: float, size: int = 4) -> tuple[torch.Tensor, ...]:
    return (torch.full((size,), float(value)), torch.full((size,), -float(value)))


def test_what_was_put_comes_back_bit_equal() -> None:
    cache = ConditioningCache(10**6)
    kept = (torch.randn(3, 5).half(), torch.randn(2, 4).t())
    cache.put(key(1), kept)
    found = cache.get(key(1))
    assert found is not None
    for ours, theirs in zip(found, kept, strict=True):
        assert torch.equal(ours, theirs)
        assert (ours.dtype, ours.stride()) == (theirs.dtype, theirs.stride())


def test_callers_cannot_change_an_entry() -> None:
    cache = ConditioningCache(10**6)
    given = entry(7)
    cache.put(key(1), given)
    given[0].zero_()
    for _ in range(2):
        found = cache.get(key(1))
        assert found is not None
        assert torch.equal(found[0], entry(7)[0])
        found[0].zero_()


@pytest.mark.parametrize(
    "other",
    [
        CacheKey(("b",), ((1, 2),), ("SD1.5", 0)),
        CacheKey(("a", "b"), ((1, 2),), ("SD1.5", 0)),
        CacheKey(("a",), ((1, 3),), ("SD1.5", 0)),
        CacheKey(("a",), ((1,), (2,)), ("SD1.5", 0)),
        CacheKey(("a",), ((1, 2),), ("SD1.5", 1)),
        CacheKey(("a",), ((1, 2),), ("SD1.5", 0), (("lora", 0.5),)),
    ],
)
def test_every_part_of_the_key_counts(other: CacheKey) -> None:
    cache = ConditioningCache(10**6)
    cache.put(CacheKey(("a",), ((1, 2),), ("SD1.5", 0)), entry(1))
    assert cache.get(other) is None


def test_the_least_recently_used_goes_first() -> None:
    cache = ConditioningCache(3 * 32)
    for number in (1, 2, 3):
        cache.put(key(number), entry(number))
    assert cache.get(key(1)) is not None
    cache.put(key(4), entry(4))
    assert cache.get(key(2)) is None
    assert all(cache.get(key(number)) is not None for number in (1, 3, 4))


def test_bytes_stay_under_the_bound() -> None:
    cache = ConditioningCache(100)
    for number in range(50):
        cache.put(key(number), entry(number, size=1 + number % 13))
        assert cache.counts().nbytes <= 100


def test_an_entry_over_the_bound_is_not_kept_and_pushes_nothing_out() -> None:
    cache = ConditioningCache(64)
    cache.put(key(1), entry(1))
    cache.put(key(2), entry(2, size=9))
    assert cache.get(key(2)) is None
    assert cache.get(key(1)) is not None


def test_a_bound_of_zero_keeps_nothing() -> None:
    cache = ConditioningCache(0)
    cache.put(key(1), entry(1))
    assert cache.counts() == CacheCounts(0, 0, 0, 0)


def test_putting_again_replaces() -> None:
    cache = ConditioningCache(10**6)
    cache.put(key(1), entry(1))
    cache.put(key(1), entry(2, size=2))
    found = cache.get(key(1))
    assert found is not None
    assert torch.equal(found[0], torch.full((2,), 2.0))
    assert cache.counts().nbytes == 16


def test_a_view_counts_what_its_copy_needs() -> None:
    cache = ConditioningCache(10**6)
    cache.put(key(1), (torch.zeros(1000)[:2],))
    assert cache.counts().nbytes == 8


def test_forgetting_a_model_drops_all_that_it_had_a_part_in() -> None:
    cache = ConditioningCache(10**6)
    cache.put(key(1, "l"), entry(1))
    cache.put(key(1, "l", "g"), entry(2))
    cache.put(key(1, "g"), entry(3))
    cache.forget("l")
    assert cache.get(key(1, "g")) is not None
    assert cache.counts() == CacheCounts(entries=1, nbytes=32, hits=1, misses=0)


def test_hits_and_misses_are_counted() -> None:
    cache = ConditioningCache(10**6)
    cache.get(key(1))
    cache.put(key(1), entry(1))
    cache.get(key(1))
    cache.get(key(1))
    assert cache.counts() == CacheCounts(entries=1, nbytes=32, hits=2, misses=1)


def test_many_threads_leave_the_counts_right() -> None:
    cache = ConditioningCache(20 * 32)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for step in range(300):
            number = (seed * 7 + step * 3) % 40
            found = cache.get(key(number))
            if found is not None and float(found[0][0]) != number:
                wrong.append(number)
            cache.put(key(number), entry(number))
            if step % 50 == 0:
                cache.forget("clip")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = cache.counts()
    assert not wrong
    assert counts.hits + counts.misses == 4 * 300
    assert counts.nbytes == counts.entries * 32 <= 20 * 32
