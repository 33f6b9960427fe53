"""A map that is bounded by bytes."""

from __future__ import annotations

from luna_collection.utils.byte_lru import ByteLru


def test_the_least_recently_used_goes_first():
    lru: ByteLru[str, int] = ByteLru(10)
    for number, name in enumerate("abc"):
        lru.put(name, number, 3)
    assert lru.get("a") == 0
    lru.put("d", 3, 3)
    assert "b" not in lru
    assert [lru.get(name) for name in "acd"] == [0, 2, 3]
    assert (len(lru), lru.nbytes) == (3, 9)


def test_what_is_too_large_is_not_kept_and_drives_nothing_out():
    lru: ByteLru[str, int] = ByteLru(10)
    lru.put("a", 1, 10)
    lru.put("b", 2, 11)
    assert lru.get("a") == 1
    assert lru.get("b") is None


def test_a_value_that_is_put_again_counts_once():
    lru: ByteLru[str, int] = ByteLru(10)
    lru.put("a", 1, 8)
    lru.put("a", 2, 4)
    assert (lru.get("a"), lru.nbytes) == (2, 4)
    lru.drop("a")
    lru.drop("a")
    assert (len(lru), lru.nbytes) == (0, 0)
