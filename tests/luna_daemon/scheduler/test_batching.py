from __future__ import annotations

from dataclasses import replace

import pytest
from luna_collection.luna_daemon.scheduler.batching import (
    KEPT_KEYS,
    BatchCosts,
    QueueKey,
    Ticket,
    alone,
    take_compatible,
    take_fairly,
)

KEY = QueueKey("encode_text", ("model",), "patches", "options", (1, 77))


def ticket(id: int, key: QueueKey = KEY, workflow: str = "w", at: float | None = None) -> Ticket:
    enqueued_at = float(id) if at is None else at
    return Ticket(id, workflow, key, enqueued_at, deadline=1000.0)


def taken(first: Ticket, waiting: list[Ticket], max_batch: int = 8) -> list[int]:
    return [t.id for t in take_compatible(first, waiting, max_batch)]


def test_a_request_alone_is_a_batch_of_one():
    assert taken(ticket(1), [ticket(1)]) == [1]


def test_nothing_else_has_to_wait_for_the_request_whose_turn_it_is():
    assert taken(ticket(1), []) == [1]


def test_compatible_requests_of_all_workflows_ride_along():
    waiting = [ticket(n, workflow=w) for n, w in enumerate("abcab")]
    assert taken(waiting[1], waiting) == [1, 0, 2, 3, 4]


@pytest.mark.parametrize(
    "other",
    [
        QueueKey("decode_latent", ("model",), "patches", "options", (1, 77)),
        QueueKey("encode_text", ("other",), "patches", "options", (1, 77)),
        QueueKey("encode_text", ("model", "other"), "patches", "options", (1, 77)),
        QueueKey("encode_text", ("model",), "", "options", (1, 77)),
        QueueKey("encode_text", ("model",), "patches", "", (1, 77)),
        QueueKey("encode_text", ("model",), "patches", "options", (1, 154)),
        QueueKey("encode_text"),
    ],
    ids=["operation", "model", "a further model", "patch set", "options", "shape", "nothing said"],
)
def test_a_request_that_needs_a_switch_stays(other: QueueKey):
    assert taken(ticket(1), [ticket(1), ticket(2, other), ticket(3)]) == [1, 3]


@pytest.mark.parametrize(
    ("max_batch", "ids"), [(1, [5]), (2, [5, 1]), (3, [5, 1, 2]), (9, [5, 1, 2, 3])]
)
def test_a_batch_has_at_most_so_many_requests(max_batch: int, ids: list[int]):
    waiting = [ticket(n) for n in (1, 2, 3, 5)]
    assert taken(waiting[3], waiting, max_batch) == ids


def test_the_oldest_ride_along_first():
    waiting = [ticket(1, at=30.0), ticket(2, at=10.0), ticket(3, at=20.0)]
    assert taken(ticket(9, at=40.0), waiting, 3) == [9, 2, 3]


def test_of_the_same_moment_the_lower_number_rides_along_first():
    waiting = [ticket(n, at=1.0) for n in (4, 2, 3)]
    assert taken(ticket(9, at=1.0), waiting, 3) == [9, 2, 3]


def test_the_waiting_requests_are_not_changed():
    waiting = [ticket(3), ticket(1), ticket(2)]
    before = list(waiting)
    taken(waiting[0], waiting)
    assert waiting == before


def test_a_request_that_is_to_run_alone_rides_with_no_other():
    waiting = [alone(ticket(1)), ticket(2), alone(ticket(3)), ticket(4)]
    assert [taken(each, waiting) for each in waiting] == [[1], [2, 4], [3], [4, 2]]


def test_to_run_alone_changes_nothing_else_about_a_request():
    before = Ticket(7, "w", KEY, 1.0, deadline=5.0, cost=2.0)
    after = alone(before)
    assert (after.id, after.workflow_id, after.enqueued_at, after.deadline, after.cost) == (
        7,
        "w",
        1.0,
        5.0,
        2.0,
    )
    assert (after.key.operation, after.key.models, after.key.shape) == (
        KEY.operation,
        KEY.models,
        KEY.shape,
    )


def fairly(
    first: Ticket, waiting: list[Ticket], max_batch: int = 8, about_one: int = 1
) -> list[int]:
    return [t.id for t in take_fairly(first, waiting, max_batch, about_one)]


def test_beside_others_one_request_of_each_workflow_rides_along():
    waiting = [ticket(n, workflow=w) for n, w in enumerate("aabbcc")]
    assert fairly(waiting[0], waiting) == [0, 2, 4]


def test_beside_others_nothing_rides_along_of_who_wants_more():
    waiting = [ticket(n, workflow=w) for n, w in enumerate("abbcdd")]
    assert fairly(waiting[0], waiting) == [0, 3]


def test_what_needs_a_switch_is_not_counted_as_wanting_more():
    other = QueueKey("decode_latent")
    waiting = [ticket(0), ticket(1, workflow="b"), ticket(2, other, workflow="b")]
    assert fairly(waiting[0], waiting) == [0, 1]


def test_beside_others_too_a_batch_has_at_most_so_many():
    waiting = [ticket(n, workflow=w) for n, w in enumerate("abcdef")]
    assert fairly(waiting[0], waiting, 3) == [0, 1, 2]
    assert fairly(waiting[0], waiting, 3, about_one=8) == [0, 1, 2]


def test_places_that_cost_nothing_go_to_the_oldest():
    waiting = [ticket(n, workflow=w) for n, w in enumerate("abbbbc")]
    assert fairly(waiting[0], waiting, about_one=3) == [0, 1, 2, 5]


@pytest.mark.parametrize("about_one", [1, 8])
def test_a_request_that_joins_no_other_is_a_batch_of_one(about_one: int):
    waiting = [replace(ticket(n, workflow=w), joins=False) for n, w in enumerate("aab")]
    assert fairly(waiting[0], waiting, about_one=about_one) == [0]
    assert taken(waiting[0], waiting) == [0]


def learned(*batches: tuple[int, float]) -> BatchCosts:
    costs = BatchCosts()
    for size, seconds in batches:
        costs.observe(KEY, size, seconds)
    return costs


@pytest.mark.parametrize(
    ("batches", "about_one"),
    [
        ([], 1),
        ([(8, 1.0)], 1),
        ([(1, 1.0)], 1),
        ([(1, 1.0), (8, 1.5)], 8),
        ([(1, 1.0), (8, 1.6)], 1),
        ([(1, 1.0), (2, 1.2), (4, 1.4), (8, 2.0)], 4),
        ([(1, 1.0), (2, 1.9), (8, 1.1)], 8),
    ],
    ids=[
        *("nothing known", "no single one", "a single one only", "gains", "gains too little"),
        *("gains up to four", "the largest counts"),
    ],
)
def test_a_size_is_about_one_when_that_was_measured(
    batches: list[tuple[int, float]], about_one: int
):
    assert learned(*batches).about_one(KEY) == about_one


def test_what_was_measured_of_one_kind_says_nothing_of_another():
    assert learned((1, 1.0), (8, 1.0)).about_one(QueueKey("encode_text", ("other",))) == 1


def test_one_slow_batch_does_not_outweigh_all_before_it():
    costs = learned((1, 1.0), *[(8, 1.0)] * 10, (8, 2.5))
    assert costs.about_one(KEY) == 8


def test_what_has_changed_is_learned():
    costs = learned((1, 1.0), *[(8, 1.0)] * 10, *[(8, 8.0)] * 3)
    assert costs.about_one(KEY) == 1


def test_only_so_many_kinds_are_remembered():
    costs = learned((1, 1.0), (8, 1.0))
    for n in range(KEPT_KEYS):
        costs.observe(QueueKey(str(n)), 1, 1.0)
    assert costs.about_one(KEY) == 1
    assert len(costs._seconds) == KEPT_KEYS
