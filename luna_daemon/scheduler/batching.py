"""Which waiting requests go to a worker together.

When a worker is free it takes the request whose turn it is and what is compatible of what waits: the
same models, operation, patch set, options and shape class. It never waits for more to come.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

ABOUT_ONE = 1.5  # a batch that costs no more requests than this takes about as long as one
KEPT_KEYS = 64  # kinds of requests whose costs are remembered
NEWEST_COUNTS = 0.25  # the part that the newest measurement has in what is remembered


@dataclass(frozen=True, slots=True)
class QueueKey:
    """Requests with equal keys may run side by side without any switch in between."""

    operation: str
    models: tuple[str, ...] = ()
    patch_set: str = ""
    options: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ticket:
    """A waiting request, as far as policy needs to know it. Times are on one monotonic clock."""

    id: int
    workflow_id: str
    key: QueueKey
    enqueued_at: float
    deadline: float
    cost: float = 1.0
    priority: int = 1  # 0 goes before 1, and 1 before 2
    joins: bool = True  # may be done together with others; else it goes to a worker alone


def take_compatible(first: Ticket, waiting: Iterable[Ticket], max_batch: int) -> list[Ticket]:
    """Return `first` and, in order of arrival, up to `max_batch - 1` others with its key."""
    batch = [first]
    if not first.joins:
        return batch
    for ticket in sorted(waiting, key=lambda t: (t.enqueued_at, t.id)):
        if len(batch) >= max_batch:
            break
        if ticket.id != first.id and ticket.key == first.key:
            batch.append(ticket)
    return batch


def take_fairly(
    first: Ticket, waiting: Iterable[Ticket], max_batch: int, about_one: int
) -> list[Ticket]:
    """Return `first` and what may ride along while other workflows want the worker as well.

    That is one request of each workflow that has no more of the kind waiting than the one whose turn it
    is: so a flood neither fills the batch of others nor one that they would have to wait for. Up to
    `about_one` requests, which take about as long together as one, may come from anywhere.
    """
    waiting = [ticket for ticket in waiting if ticket.key == first.key]
    crowds = Counter(ticket.workflow_id for ticket in waiting)
    batch, workflows = [first], {first.workflow_id}
    if not first.joins:
        return batch
    for ticket in sorted(waiting, key=lambda t: (t.enqueued_at, t.id)):
        if len(batch) >= max_batch:
            break
        fair = crowds[ticket.workflow_id] <= crowds[first.workflow_id]
        fair = fair and ticket.workflow_id not in workflows
        if ticket.id != first.id and (fair or len(batch) < about_one):
            batch.append(ticket)
            workflows.add(ticket.workflow_id)
    return batch


class BatchCosts:
    """How long batches of one kind of request take, learned from those that ran."""

    def __init__(self) -> None:
        self._seconds: OrderedDict[QueueKey, dict[int, float]] = OrderedDict()  # by size

    def observe(self, key: QueueKey, size: int, seconds: float) -> None:
        """Note how long a batch took."""
        known = self._seconds.setdefault(key, {})
        self._seconds.move_to_end(key)
        known[size] = known.get(size, seconds) * (1 - NEWEST_COUNTS) + seconds * NEWEST_COUNTS
        while len(self._seconds) > KEPT_KEYS:
            self._seconds.popitem(last=False)

    def about_one(self, key: QueueKey) -> int:
        """Return the largest size that is known to take about as long as a single request; at least 1."""
        known = self._seconds.get(key, {})
        if 1 not in known:
            return 1
        return max(
            size for size, seconds in known.items() if seconds <= ABOUT_ONE * known[1] or size == 1
        )


def alone(ticket: Ticket) -> Ticket:
    """Return the ticket with a key that no other has.

    After a worker has died, the requests of its batch are tried again one by one: so that only the one
    that it died of can fail.
    """
    return replace(
        ticket, key=replace(ticket.key, options=f"{ticket.key.options} alone {ticket.id}")
    )
