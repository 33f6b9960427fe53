"""Which waiting requests go to a worker together.

When a worker is free it takes the request whose turn it is and everything compatible that waits: the
same models, operation, patch set, options and shape class. It never waits for more to come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


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


def take_compatible(first: Ticket, waiting: Iterable[Ticket], max_batch: int) -> list[Ticket]:
    """Return `first` and, in order of arrival, up to `max_batch - 1` others with its key."""
    batch = [first]
    for ticket in sorted(waiting, key=lambda t: (t.enqueued_at, t.id)):
        if len(batch) >= max_batch:
            break
        if ticket.id != first.id and ticket.key == first.key:
            batch.append(ticket)
    return batch


def alone(ticket: Ticket) -> Ticket:
    """Return the ticket with a key that no other has.

    After a worker has died, the requests of its batch are tried again one by one: so that only the one
    that it died of can fail.
    """
    return replace(
        ticket, key=replace(ticket.key, options=f"{ticket.key.options} alone {ticket.id}")
    )
