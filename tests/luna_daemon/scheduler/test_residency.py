from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.luna_daemon.errors import RejectedError
from luna_collection.luna_daemon.protocol.worker_messages import ModelSpec
from luna_collection.luna_daemon.scheduler.residency import Residency

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


def plan(models: Residency, needs: float, budget: float, must_stay: str = "") -> list[str]:
    return models.plan_room(spec("new", needs), int(budget * MB), set(must_stay))


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


def test_what_does_not_fit_beside_what_must_stay_is_rejected():
    with pytest.raises(RejectedError) as rejected:
        plan(residency(a=300, b=100), needs=200, budget=400, must_stay="a")
    error = rejected.value
    assert error.message == (
        "The model for 'vae' needs 200 MB, and of the device's budget of 400 MB "
        "300 MB are held by other workflows."
    )
    assert ("device_budgets_gb" in error.hint, error.retryable, error.retry_after_s) == (
        True,
        True,
        5.0,
    )


def test_what_is_larger_than_the_whole_budget_is_rejected():
    with pytest.raises(
        RejectedError, match="needs 500 MB, and of the device's budget of 400 MB 0 MB"
    ):
        plan(residency(), needs=500, budget=400)


models_in_memory = st.lists(st.integers(0, 50), max_size=8)


@settings(deadline=None, max_examples=200)
@given(models_in_memory, st.sets(st.integers(0, 7)), st.integers(0, 60), st.integers(0, 200))
def test_any_plan_makes_enough_room_and_drops_nothing_that_must_stay(sizes, stay, needs, budget):
    models = residency(**{f"m{n}": size for n, size in enumerate(sizes)})
    must_stay = {f"m{n}" for n in stay}
    kept = sum(size for n, size in enumerate(sizes) if n in stay)
    try:
        dropped = models.plan_room(spec("new", needs), budget * MB, must_stay)
    except RejectedError:
        assert kept + needs > budget
        return
    freed = sum(sizes[int(key[1:])] for key in dropped)
    assert sum(sizes) - freed + needs <= budget
    assert not must_stay.intersection(dropped)
    assert dropped == sorted(dropped, key=lambda key: int(key[1:]))
