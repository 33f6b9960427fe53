from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.luna_daemon.protocol.worker_messages import ModelSpec
from luna_collection.luna_daemon.scheduler.residency import (
    DEVICE,
    DISK,
    RAM,
    Budget,
    Move,
    Plan,
    Residency,
    plan_room,
    refuse_load,
    refuse_run,
    used_bytes,
)

MB = 2**20


def spec(key: str, megabytes: float = 100, role: str = "vae") -> ModelSpec:
    nbytes = int(megabytes * MB)
    return ModelSpec(key=key, role=role, path=f"/models/{key}", precision="fp16", nbytes=nbytes)


def residency(**megabytes: int) -> Residency:
    """Models in memory, the first loaded first."""
    made = Residency()
    for key, size in megabytes.items():
        made.add(spec(key, size), size * MB)
    return made


def asleep(**megabytes: int) -> Residency:
    """Models that sleep in RAM, the first used first."""
    made = residency(**megabytes)
    for key in megabytes:
        made.move(key, RAM)
    return made


def plan(models: Residency, needs: float, budget: float, must_stay: str = "") -> list[str]:
    made = plan_room([models], int(needs * MB), Budget(int(budget * MB)), set(must_stay))
    assert all((move.source, move.target) == (DEVICE, DISK) for move in made.moves)
    return [move.key for move in made.moves]


def plan_with_ram(
    *models: Residency, needs: int, budget: int, ram: int, must_stay: Sequence[str] = ()
) -> list[tuple[str, str, str]]:
    made = plan_room(models, needs * MB, Budget(budget * MB, ram * MB), set(must_stay))
    return [(move.key, move.source, move.target) for move in made.moves]


def test_memory_is_counted_as_the_worker_told_it():
    models = Residency()
    models.add(spec("a", megabytes=100), nbytes=123)
    assert (models.used_bytes, models.models()[0].nbytes) == (123, 123)


def test_a_model_that_was_dropped_takes_no_memory():
    models = residency(a=100, b=50)
    models.remove("a")
    assert (models.used_bytes, list(models), "a" in models) == (50 * MB, ["b"], False)


def test_dropping_what_is_not_there_changes_nothing():
    models = residency(a=100)
    models.remove("b")
    assert list(models) == ["a"]


def test_models_are_listed_least_recently_used_first():
    models = residency(a=1, b=1, c=1)
    models.touch("a")
    assert [m.spec.key for m in models.models()] == ["b", "c", "a"]


def test_a_model_that_is_loaded_anew_is_the_most_recently_used():
    models = residency(a=1, b=1)
    models.add(spec("a", 2), 2 * MB)
    assert (list(models), models.used_bytes) == (["b", "a"], 3 * MB)


@pytest.mark.parametrize(
    ("needs", "budget", "dropped"),
    [
        (100, 400, []),
        (101, 400, ["a"]),
        (200, 400, ["a"]),
        (201, 400, ["a", "b"]),
        (400, 400, ["a", "b", "c"]),
        (0, 300, []),
        (0, 299, ["a"]),
    ],
    ids=[
        "fits",
        "by one",
        "one model",
        "two models",
        "all",
        "nothing needed",
        "budget was lowered",
    ],
)
def test_the_least_recently_used_are_dropped_first(needs: int, budget: int, dropped: list[str]):
    assert plan(residency(a=100, b=100, c=100), needs, budget) == dropped


def test_no_more_is_dropped_than_is_needed():
    assert plan(residency(a=300, b=1, c=1), needs=100, budget=310) == ["a"]


def test_use_counts_not_the_time_of_loading():
    models = residency(a=100, b=100)
    models.touch("a")
    assert plan(models, needs=100, budget=200) == ["b"]


@pytest.mark.parametrize(
    ("must_stay", "dropped"), [("a", ["b"]), ("ab", ["c"]), ("b", ["a"]), ("ac", ["b"])]
)
def test_what_is_leased_or_at_work_stays(must_stay: str, dropped: list[str]):
    assert plan(residency(a=100, b=100, c=100), 100, 300, must_stay) == dropped


def test_planning_changes_nothing():
    models = residency(a=100, b=100)
    plan(models, needs=200, budget=200)
    assert list(models) == ["a", "b"]


def test_what_does_not_fit_beside_what_must_stay_is_missing_and_the_error_says_so():
    budget = Budget(400 * MB)
    made = plan_room([residency(a=300, b=100)], 200 * MB, budget, {"a"})
    assert made == Plan((Move("b", DEVICE, DISK),), 300 * MB, 100 * MB)
    error = refuse_load(spec("new", 200), made, budget)
    assert error.message == (
        "The model for 'vae' needs 200 MB, and of the device's budget of 400 MB "
        "300 MB are held by other workflows."
    )
    assert ("device_budgets_gb" in error.hint, error.retryable, error.retry_after_s) == (
        True,
        True,
        5.0,
    )


def test_a_run_that_does_not_fit_is_refused_with_the_numbers():
    budget = Budget(400 * MB)
    made = plan_room([residency(a=300)], 200 * MB, budget, {"a"})
    assert refuse_run(200 * MB, made, budget).message == (
        "The request needs about 200 MB beside the weights, and of the device's budget of 400 MB "
        "300 MB are held by models that workflows use."
    )


def test_what_is_larger_than_the_whole_budget_is_missing():
    assert plan_room([residency()], 500 * MB, Budget(400 * MB), ()).missing_bytes == 100 * MB


def test_a_model_goes_to_sleep_and_wakes_up_again():
    models = residency(a=100, b=50)
    models.move("a", RAM)
    assert (models.used_bytes, models.place_of("a"), "a" in models) == (50 * MB, RAM, True)
    models.move("a", DEVICE)
    assert (models.used_bytes, models.place_of("a")) == (150 * MB, DEVICE)
    models.remove("a")
    assert models.place_of("a") == DISK


def test_what_leaves_the_device_sleeps_in_ram_while_there_is_room():
    # What has just gone to sleep is not dropped for the next one.
    moves = plan_with_ram(residency(a=100, b=100), needs=150, budget=200, ram=150)
    assert moves == [("a", DEVICE, RAM), ("b", DEVICE, DISK)]


def test_sleepers_are_dropped_for_later_ones_the_first_used_first():
    both = asleep(old=60, older=30)
    both.touch("old")
    both.add(spec("a", 100), 100 * MB)
    moves = plan_with_ram(both, needs=100, budget=100, ram=160)
    assert moves == [("older", RAM, DISK), ("a", DEVICE, RAM)]


def test_a_sleeper_that_must_stay_is_not_dropped_for_another():
    models = asleep(old=100)
    models.add(spec("a", 100), 100 * MB)
    moves = plan_with_ram(models, needs=100, budget=100, ram=150, must_stay=("old",))
    assert moves == [("a", DEVICE, DISK)]


def test_what_is_larger_than_the_ram_is_dropped_and_wakes_nobody():
    models = asleep(old=10)
    models.add(spec("a", 100), 100 * MB)
    assert plan_with_ram(models, needs=100, budget=100, ram=50) == [("a", DEVICE, DISK)]


def test_models_of_all_processes_go_by_their_last_use():
    one, other = residency(a=100), residency(b=100)
    one.touch("a")
    assert plan_with_ram(one, other, needs=100, budget=200, ram=0) == [("b", DEVICE, DISK)]


def test_copies_of_two_processes_count_twice_unless_they_share():
    both = [residency(a=100), residency(a=100)]
    assert [used_bytes(both, DEVICE, shared=shared) for shared in (False, True)] == [
        200 * MB,
        100 * MB,
    ]
    alone = plan_room(both, 100 * MB, Budget(200 * MB), (), shared=True)
    assert alone.moves == ()
    copied = plan_room(both, 100 * MB, Budget(200 * MB), (), shared=False)
    assert (copied.moves, copied.held_bytes) == ((Move("a", DEVICE, DISK),), 0)


models_in_memory = st.lists(st.integers(0, 50), max_size=8)


@settings(deadline=None, max_examples=200)
@given(
    models_in_memory,
    models_in_memory,
    st.sets(st.integers(0, 7)),
    st.integers(0, 60),
    st.integers(0, 200),
    st.integers(0, 100),
)
def test_any_plan_makes_enough_room_and_moves_nothing_that_must_stay(
    sizes, sleeping, stay, needs, budget, ram
):
    awake = residency(**{f"m{n}": size for n, size in enumerate(sizes)})
    sleepers = asleep(**{f"s{n}": size for n, size in enumerate(sleeping)})
    must_stay = {f"m{n}" for n in stay} | {f"s{n}" for n in stay}
    slept_before = used_bytes([sleepers], RAM, shared=False)
    kept = sum(size for n, size in enumerate(sizes) if n in stay)
    made = plan_room([awake, sleepers], needs * MB, Budget(budget * MB, ram * MB), must_stay)
    for move in made.moves:
        assert move.key not in must_stay
        holder = awake if move.key in awake else sleepers
        assert holder.place_of(move.key) == move.source
        if move.target == RAM:
            holder.move(move.key, RAM)
        else:
            holder.remove(move.key)
        asleep_now = used_bytes([awake, sleepers], RAM, shared=False)
        assert asleep_now <= max(ram * MB, slept_before)
    left = used_bytes([awake, sleepers], DEVICE, shared=False)
    assert left == made.held_bytes
    assert made.missing_bytes == max(0, left + needs * MB - budget * MB)
    assert not made.missing_bytes or left <= kept * MB
