from __future__ import annotations

import pytest
from luna_collection.luna_daemon.scheduler.batching import QueueKey, Ticket, alone, take_compatible

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
