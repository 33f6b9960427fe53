from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.luna_daemon.errors import RejectedError
from luna_collection.luna_daemon.scheduler.batching import QueueKey, Ticket
from luna_collection.luna_daemon.scheduler.fairness import LATELY_S, PATIENCE, FairQueue

A, B = QueueKey("encode_text", ("a",)), QueueKey("encode_text", ("b",))


def ticket(
    id: int, workflow: str = "w", key: QueueKey = A, deadline: float = 1e9, cost: float = 1.0
) -> Ticket:
    return Ticket(id, workflow, key, enqueued_at=float(id), deadline=deadline, cost=cost)


def queue_of(*tickets: Ticket, max_waiting: int = 10_000, max_batch: int = 1) -> FairQueue:
    queue = FairQueue(max_waiting, max_batch)
    for waiting in tickets:
        queue.push(waiting)
    return queue


def ids(batch: list[Ticket]) -> list[int]:
    return [t.id for t in batch]


def drained(queue: FairQueue) -> list[list[int]]:
    batches = []
    while batch := queue.take():
        batches.append(ids(batch))
    return batches


def test_an_empty_queue_gives_nothing():
    assert queue_of().take() == []


def test_one_workflow_is_served_in_the_order_of_its_requests():
    assert drained(queue_of(*(ticket(n) for n in range(5)))) == [[0], [1], [2], [3], [4]]


def test_compatible_requests_are_taken_together():
    assert drained(queue_of(*(ticket(n) for n in range(5)), max_batch=3)) == [[0, 1, 2], [3, 4]]


def test_the_oldest_request_of_a_workflow_is_never_overtaken_by_a_switch():
    mixed = [ticket(n, key=A if n % 2 else B) for n in range(4)]
    assert drained(queue_of(*mixed, max_batch=8)) == [[0, 2], [1, 3]]


def test_workflows_take_turns():
    tickets = [ticket(n, "a" if n < 3 else "b") for n in range(6)]
    assert drained(queue_of(*tickets)) == [[0], [3], [1], [4], [2], [5]]


def test_requests_of_other_workflows_ride_along():
    tickets = [ticket(0, "a"), ticket(1, "b", B), ticket(2, "c"), ticket(3, "b")]
    assert drained(queue_of(*tickets, max_batch=8)) == [[0, 2, 3], [1]]


def test_a_taken_request_no_longer_waits():
    queue = queue_of(*(ticket(n) for n in range(5)), max_batch=2)
    queue.take()
    assert len(queue) == 3


def flooded(max_batch: int, own_key: QueueKey, served_before: int) -> list[list[int]]:
    """A workflow with 1000 requests, then one request (number 5000) of another; the next batches."""
    queue = queue_of(*(ticket(n, "flood") for n in range(1000)), max_batch=max_batch)
    for _ in range(served_before):
        queue.take()
    queue.push(ticket(5000, "other", own_key))
    return [ids(queue.take()) for _ in range(2)]


@pytest.mark.parametrize("served_before", [0, 1, 2, 7], ids=lambda n: f"after {n} batches")
@pytest.mark.parametrize("own_key", [A, B], ids=["compatible", "needs a switch"])
@pytest.mark.parametrize("max_batch", [1, 2, 8, 256])
def test_a_flood_delays_another_workflow_by_one_batch_at_most(
    max_batch: int, own_key: QueueKey, served_before: int
):
    assert any(5000 in batch for batch in flooded(max_batch, own_key, served_before))


def test_every_one_of_many_workflows_is_served_before_the_flood_a_second_time():
    queue = queue_of(
        *(ticket(n, "flood") for n in range(1000)),
        *(ticket(2000 + n, f"w{n}", B) for n in range(20)),
    )
    first = [ids(queue.take())[0] for _ in range(21)]
    assert sorted(first) == [0, *range(2000, 2020)]


def test_workflows_get_equal_shares_though_one_rides_in_larger_batches():
    tickets = [ticket(n, "batches", A) for n in range(400)]
    tickets += [ticket(1000 + n, "singles", QueueKey(str(n))) for n in range(400)]
    queue = queue_of(*tickets, max_batch=8)
    served: Counter[str] = Counter()
    for _ in range(90):
        served.update(t.workflow_id for t in queue.take())
    assert abs(served["batches"] - served["singles"]) <= 8


def test_a_rider_pays_for_itself():
    # Number 1 rides along with workflow a, so that b skips its next turn.
    tickets = [ticket(0, "a", A), ticket(1, "b", A), ticket(2, "b", B), ticket(3, "a", B)]
    queue = queue_of(*tickets, max_batch=2)
    assert ids(queue.take()) == [0, 1]
    queue.max_batch = 1
    assert drained(queue) == [[3], [2]]


def test_a_dear_request_waits_until_its_workflow_has_saved_for_it():
    tickets = [ticket(0, "dear", cost=3.0), *(ticket(n, "cheap") for n in range(1, 6))]
    assert drained(queue_of(*tickets)) == [[1], [2], [0], [3], [4], [5]]


def test_a_dear_request_alone_is_taken_at_once():
    assert drained(queue_of(ticket(0, cost=50.0))) == [[0]]


def test_who_has_nothing_waiting_saves_nothing():
    queue = queue_of(*(ticket(n, "busy") for n in range(10)), ticket(100, "rare"))
    for _ in range(6):
        queue.take()
    for n in range(101, 105):
        queue.push(ticket(n, "rare"))
    rare = [t for _ in range(4) for t in ids(queue.take()) if t > 100]
    assert len(rare) == 2


def test_a_debt_ends_when_nothing_waits_any_more():
    queue = queue_of(*(ticket(n, "a") for n in range(8)), max_batch=8)
    queue.take()
    queue.max_batch = 1
    queue.push(ticket(10, "a"))
    queue.push(ticket(11, "b"))
    queue.push(ticket(12, "b"))
    assert drained(queue) == [[11], [10], [12]]


def test_a_full_queue_rejects_and_says_when_to_try_again():
    queue = queue_of(ticket(0), ticket(1), max_waiting=2)
    with pytest.raises(RejectedError) as rejected:
        queue.push(ticket(2))
    error = rejected.value
    assert (error.message, error.retryable) == ("2 requests wait already.", True)
    assert error.retry_after_s > 0


def test_a_rejected_request_does_not_wait():
    queue = queue_of(ticket(0), max_waiting=1)
    with pytest.raises(RejectedError):
        queue.push(ticket(1, "other"))
    assert drained(queue) == [[0]]


def test_the_bound_counts_all_workflows():
    queue = queue_of(ticket(0, "a"), ticket(1, "b"), max_waiting=2)
    with pytest.raises(RejectedError):
        queue.push(ticket(2, "c"))


def test_a_full_queue_takes_requests_again_when_some_were_taken():
    queue = queue_of(ticket(0), max_waiting=1)
    queue.take()
    queue.push(ticket(1))
    assert drained(queue) == [[1]]


def test_a_request_that_is_tried_again_finds_room_in_a_full_queue():
    queue = queue_of(ticket(0), ticket(1), max_waiting=2)
    first = queue.take()[0]
    queue.push(ticket(2))
    queue.push_front(first)
    assert drained(queue) == [[0], [1], [2]]


def test_a_cancelled_request_does_not_run():
    queue = queue_of(*(ticket(n) for n in range(3)))
    assert queue.remove(1) == ticket(1)
    assert drained(queue) == [[0], [2]]


@pytest.mark.parametrize("id", [7, -1], ids=["unknown", "negative"])
def test_cancelling_what_does_not_wait_changes_nothing(id: int):
    queue = queue_of(ticket(0))
    assert (queue.remove(id), len(queue)) == (None, 1)


def test_cancelling_what_runs_already_changes_nothing():
    queue = queue_of(ticket(0), ticket(1))
    queue.take()
    assert (queue.remove(0), drained(queue)) == (None, [[1]])


def test_cancelling_the_last_request_empties_the_queue():
    queue = queue_of(ticket(0))
    queue.remove(0)
    assert (len(queue), queue.take()) == (0, [])


def test_late_requests_are_taken_out():
    queue = queue_of(*(ticket(n, deadline=10.0 * n) for n in range(4)))
    assert ids(queue.expire(now=20.0)) == [0, 1, 2]
    assert drained(queue) == [[3]]


def test_nothing_expires_before_its_deadline():
    queue = queue_of(ticket(0, deadline=10.0))
    assert (queue.expire(now=9.999), len(queue)) == ([], 1)


@pytest.mark.parametrize(("now", "wait"), [(5.0, 4.0), (1.0, 0.0)])
def test_the_longest_wait_is_that_of_the_oldest_request(now: float, wait: float):
    assert queue_of(ticket(3, "b"), ticket(1, "a"), ticket(2, "a")).longest_wait(now) == wait


def test_nobody_waits_in_an_empty_queue():
    assert queue_of().longest_wait(100.0) == 0.0


pushes = st.tuples(
    st.just("push"),
    st.sampled_from("abc"),
    st.sampled_from([A, B]),
    st.sampled_from([0.5, 1.0, 4.0]),
)
steps = st.lists(
    pushes
    | st.tuples(st.just("take"))
    | st.tuples(st.just("cancel"), st.integers(0, 40))
    | st.tuples(st.just("expire")),
    max_size=60,
)


@settings(deadline=None, max_examples=200)
@given(steps, st.integers(1, 5))
def test_every_request_comes_out_once_and_in_order_for_its_workflow_and_key(steps, max_batch):
    queue = FairQueue(max_waiting=20, max_batch=max_batch)
    pushed, out, order = set(), [], defaultdict(list)

    def take() -> int:
        batch = queue.take()
        assert len(batch) <= max_batch
        assert len({t.key for t in batch}) <= 1
        for t in batch:
            order[t.workflow_id, t.key].append(t.id)
            out.append(t.id)
        return len(batch)

    for number, (step, *rest) in enumerate(steps):
        if step == "push":
            workflow, key, cost = rest
            if len(queue) < 20:
                queue.push(ticket(number, workflow, key, deadline=number + 10.5, cost=cost))
                pushed.add(number)
        elif step == "take":
            take()
        elif step == "cancel":
            removed = queue.remove(*rest)
            out += [removed.id] if removed else []
        else:
            out += ids(queue.expire(now=float(number)))
    while take():
        pass
    assert len(queue) == 0
    assert Counter(out) == Counter(pushed)
    assert all(run == sorted(run) for run in order.values())


def urgent(id: int, priority: int, workflow: str = "w", key: QueueKey = A) -> Ticket:
    return replace(ticket(id, workflow, key), priority=priority)


def test_a_higher_priority_goes_first_and_keeps_the_order_within():
    tickets = [urgent(0, 2), urgent(1, 1), urgent(2, 0), urgent(3, 1), urgent(4, 0)]
    assert drained(queue_of(*tickets)) == [[2], [4], [1], [3], [0]]


def test_a_low_priority_has_a_turn_though_higher_ones_never_end():
    queue = queue_of(urgent(0, 2), *(urgent(n, 0) for n in range(1, 40)))
    taken = [ids(queue.take())[0] for _ in range(20)]
    assert 0 in taken
    assert taken.index(0) == PATIENCE


def test_every_priority_has_a_turn_in_a_flood_of_higher_ones():
    queue = queue_of(urgent(0, 2), urgent(1, 1), *(urgent(n, 0) for n in range(2, 60)))
    taken = [ids(queue.take())[0] for _ in range(2 * (PATIENCE + 2))]
    assert {0, 1} <= set(taken)


def test_a_compatible_request_of_a_lower_priority_rides_along():
    queue = queue_of(urgent(0, 2), urgent(1, 0), urgent(2, 0, key=B), max_batch=8)
    assert drained(queue) == [[1, 0], [2]]


# What one workflow's flood does to another. Time is counted in requests: a batch takes as long as the
# requests in it, and "at work" is what a worker that serves this queue does at that time.
MANY = 64


def served_at(arrivals: list[Ticket], max_batch: int = 8) -> dict[int, tuple[float, float]]:
    """Let one worker serve requests as they come; return when each was begun and finished."""
    queue = FairQueue(10_000, max_batch)
    waiting = sorted(arrivals, key=lambda t: t.enqueued_at)
    now, served = 0.0, {}
    while waiting or len(queue):
        if not len(queue):
            now = max(now, waiting[0].enqueued_at)
        while waiting and waiting[0].enqueued_at <= now:
            queue.push(waiting.pop(0))
        batch = queue.take()
        served.update({t.id: (now, now + len(batch)) for t in batch})
        now += len(batch)
    return served


def at(time: float, id: int, workflow: str, key: QueueKey = A, **more: object) -> Ticket:
    return replace(ticket(id, workflow, key), enqueued_at=time, **more)


@pytest.mark.parametrize("own_key", [A, B], ids=["compatible", "needs a switch"])
@pytest.mark.parametrize("max_batch", [1, 2, 8, 256])
@pytest.mark.parametrize("arrival", [0.0, 0.01, 0.5, 0.99, 1.0, 3.3, 20.7, 50.0])
def test_beside_a_flood_a_request_waits_for_one_other_and_for_itself(
    arrival: float, max_batch: int, own_key: QueueKey
):
    before = at(0.0, 1000, "other", own_key)  # it has asked lately
    flood = [at(0.0, n, "flood") for n in range(MANY)]
    start = served_at([before, *flood], max_batch)[1000][1]
    mine = at(start + arrival, 1001, "other", own_key)
    _, finished = served_at([before, *flood, mine], max_batch)[1001]
    assert finished - mine.enqueued_at <= 2.0


@pytest.mark.parametrize("pause", [0.0, 0.1, 0.7, 1.0, 4.2])
def test_a_workflow_that_asks_again_and_again_never_waits_for_two(pause: float):
    queue = FairQueue(10_000, 8)
    for n in range(16):
        queue.push(at(0.0, n, "flood"))
    queue.push(at(0.0, 5000, "other"))
    now, fresh, asks_at, asked_at, waits = 0.0, itertools.count(100), None, 0.0, []
    while len(waits) < 40:
        batch = queue.take()
        now += len(batch)
        if asks_at is not None and asks_at <= now:  # it came while the batch was at work
            queue.push(at(asks_at, next(fresh) + 5000, "other"))
            asked_at, asks_at = asks_at, None
        for done in batch:
            if done.workflow_id == "flood":  # as many under way as before
                queue.push(at(now, next(fresh), "flood"))
            else:
                waits.append(now - asked_at)
                asks_at = now + pause
    assert max(waits) <= 2.0


def test_the_first_request_after_a_long_silence_waits_for_one_batch_at_most():
    flood = [at(0.0, n, "flood") for n in range(MANY)]
    mine = at(4.0, 1000, "other")
    _, finished = served_at([*flood, mine])[1000]
    assert finished <= 8.0 + 1.0


def test_a_workflow_that_has_the_worker_to_itself_fills_its_batches():
    queue = queue_of(*(at(0.0, n, "w") for n in range(16)), max_batch=8)
    assert [len(batch) for batch in drained(queue)] == [8, 8]


def test_it_fills_them_again_when_no_other_has_asked_for_long():
    queue = queue_of(at(0.0, 0, "other"), max_batch=8)
    queue.take()
    for n in range(1, 10):
        queue.push(at(LATELY_S, n, "w"))
    assert len(queue.take()) == 1
    queue.push(at(LATELY_S + 0.1, 20, "w"))
    assert len(queue.take()) == 8


def test_workflows_that_ask_for_one_each_are_served_together():
    queue = queue_of(*(ticket(n, f"w{n}") for n in range(8)), max_batch=8)
    assert drained(queue) == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_who_comes_while_another_is_served_goes_before_it():
    queue = queue_of(ticket(0, "flood"), ticket(1, "flood"), ticket(2, "flood"))
    assert ids(queue.take()) == [0]
    queue.push(ticket(3, "one", B))
    queue.push(ticket(4, "two", B))
    assert drained(queue) == [[3], [4], [1], [2]]


def test_a_stream_of_new_workflows_does_not_keep_an_old_one_waiting():
    queue = queue_of(ticket(0, "old"), ticket(1, "old", B))
    assert ids(queue.take()) == [0]
    turns = []
    for n in range(10, 14):
        queue.push(ticket(n, f"w{n}"))
        queue.push(ticket(n + 100, f"w{n + 100}"))
        turns.append(ids(queue.take()))
    assert [1] in turns


def test_work_that_gains_nothing_from_company_goes_alone():
    queue = queue_of(*(replace(ticket(n, "w"), joins=False) for n in range(3)), max_batch=8)
    assert drained(queue) == [[0], [1], [2]]


def test_a_batch_that_is_known_to_take_about_as_long_as_one_is_filled_by_anybody():
    queue = queue_of(*(ticket(n, "flood") for n in range(20)), ticket(50, "other"), max_batch=8)
    queue.costs.observe(A, 1, 1.0)
    queue.costs.observe(A, 4, 1.4)
    queue.costs.observe(A, 8, 1.6)
    first = ids(queue.take())
    assert len(first) == 5  # four of the flood, and the other's
    assert 50 in first
