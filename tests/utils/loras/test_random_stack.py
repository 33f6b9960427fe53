from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.loras.random_stack import RandomSlot, draw_stack
from luna_collection.utils.seeded_draw import Steps

WIDE = Steps(0.0, 1.0, 0.01)
SLOTS = [RandomSlot(n, f"{n}.safetensors", WIDE, WIDE, chance=0.7) for n in range(1, 8)]
seeds = st.integers(0, 2**64 - 1)


@given(seeds, st.integers(0, 9))
def test_the_same_seed_draws_the_same(seed, count):
    assert draw_stack(SLOTS, count, seed) == draw_stack(SLOTS, count, seed)


@given(seeds, st.integers(1, 9))
def test_at_most_so_many_are_picked_in_the_order_of_the_slots(seed, count):
    names = [entry.name for entry in draw_stack(SLOTS, count, seed)]
    assert len(names) <= count
    assert names == sorted(set(names))
    everything = [entry.name for entry in draw_stack(SLOTS, 0, seed)]
    assert set(names) <= set(everything)
    assert len(names) == min(count, len(everything))


@given(seeds, st.integers(1, 7))
def test_a_slot_that_is_switched_off_changes_nothing_about_the_others(seed, off):
    some = [slot for slot in SLOTS if slot.number != off]
    left = [e for e in draw_stack(SLOTS, 0, seed) if e.name != f"{off}.safetensors"]
    assert list(draw_stack(some, 0, seed)) == left


@given(seeds)
def test_without_a_clip_range_both_strengths_are_the_same(seed):
    (entry,) = draw_stack([RandomSlot(1, "a", WIDE)], 0, seed)
    assert entry.model_strength == entry.clip_strength


def test_the_chance_is_kept_over_many_seeds():
    slot = RandomSlot(1, "a", WIDE, chance=0.25)
    taken = sum(bool(draw_stack([slot], 0, seed)) for seed in range(4000))
    assert 900 < taken < 1100


def test_every_slot_is_picked_as_often_as_any_other():
    slots = [RandomSlot(n, str(n), WIDE) for n in range(1, 5)]
    picked = [draw_stack(slots, 1, seed)[0].name for seed in range(4000)]
    assert all(900 < picked.count(str(n)) < 1100 for n in range(1, 5))
