"""Whose turn it is: a bounded queue with priorities, and deficit round robin across workflows in each.

A higher priority goes first; but after `PATIENCE` turns in a row that passed a lower one over, the lower
one has a turn, so that nothing waits for ever.

Within a priority each workflow has a queue of its own. On its turn a workflow earns a quantum and pays
the cost of the request it sends; what rides along in a batch is charged to its own workflow, which may
fall into debt and then skips turns. Who is being served stands last, also behind those that come only now.

A workflow that has the worker to itself fills its batches. As long as another one waits, or has asked
within `LATELY_S`, no batch takes much longer than one request of each workflow that has a part in it, and
none waits for a flood: a flooding workflow delays only itself.
Source: Shreedhar & Varghese, Efficient Fair Queueing using Deficit Round Robin, 1995.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator

from ..errors import RejectedError
from .batching import BatchCosts, Ticket, take_compatible, take_fairly

QUANTUM = 1.0
PATIENCE = 8
LATELY_S = 30.0


class FairQueue:
    """Waiting requests of one device."""

    def __init__(self, max_waiting: int, max_batch: int) -> None:
        self.max_waiting = max_waiting
        self.max_batch = max_batch
        self.costs = BatchCosts()
        self._asked_at: dict[str, float] = {}  # workflow → when it asked last, if that was lately
        self._levels: dict[int, RoundRobin] = {}
        self._passed_over: dict[int, int] = {}  # priority → turns in a row

    def __len__(self) -> int:
        return sum(len(level) for level in self._levels.values())

    def __iter__(self) -> Iterator[Ticket]:
        return (ticket for level in self._levels.values() for ticket in level)

    def push(self, ticket: Ticket) -> None:
        """Let a request wait.

        Raises:
            RejectedError: The queue is full.
        """
        if len(self) >= self.max_waiting:
            raise RejectedError(
                f"{self.max_waiting} requests wait already.",
                "Try again in a moment, or raise max_queue.",
                retry_after_s=1.0,
            )
        self._note(ticket)
        self._level(ticket).queue(ticket.workflow_id).append(ticket)

    def push_front(self, ticket: Ticket) -> None:
        """Let a request that was already taken wait again, before all others of its workflow."""
        self._level(ticket).queue(ticket.workflow_id).appendleft(ticket)

    def take(self) -> list[Ticket]:
        """Return the requests to run next, or an empty list."""
        priority = self._next_priority()
        if priority is None:
            return []
        first = self._levels[priority].next_ticket()
        if self._has_others(first.workflow_id):
            batch = take_fairly(first, self, self.max_batch, self.costs.about_one(first.key))
        else:
            batch = take_compatible(first, self, self.max_batch)
        for ticket in batch:
            self._level(ticket).pay(ticket)
        self._levels[priority].turn_over(first.workflow_id)
        self._remove(batch)
        return batch

    def remove(self, ticket_id: int) -> Ticket | None:
        """Take out one request that was cancelled; None when it does not wait (any more)."""
        found = next((t for t in self if t.id == ticket_id), None)
        if found is not None:
            self._remove([found])
        return found

    def expire(self, now: float) -> list[Ticket]:
        """Take out every request whose deadline has passed."""
        late = [ticket for ticket in self if ticket.deadline <= now]
        self._remove(late)
        return late

    def longest_wait(self, now: float) -> float:
        """Seconds that the oldest request has waited; 0 without one."""
        return max((now - ticket.enqueued_at for ticket in self), default=0.0)

    def _note(self, ticket: Ticket) -> None:
        """Remember that the workflow has asked, and forget those that have not for long."""
        self._asked_at[ticket.workflow_id] = ticket.enqueued_at
        self._asked_at = {
            workflow: at
            for workflow, at in self._asked_at.items()
            if ticket.enqueued_at - at <= LATELY_S
        }

    def _has_others(self, workflow_id: str) -> bool:
        """Does another workflow wait, or may one soon come back?"""
        return any(w != workflow_id for w in self._asked_at) or any(
            ticket.workflow_id != workflow_id for ticket in self
        )

    def _level(self, ticket: Ticket) -> RoundRobin:
        return self._levels.setdefault(ticket.priority, RoundRobin())

    def _next_priority(self) -> int | None:
        waiting = sorted(priority for priority, level in self._levels.items() if len(level))
        if not waiting:
            return None
        for priority in waiting[1:]:
            self._passed_over[priority] = self._passed_over.get(priority, 0) + 1
        impatient = [p for p in waiting[1:] if self._passed_over[p] > PATIENCE]
        chosen = impatient[0] if impatient else waiting[0]
        self._passed_over[chosen] = 0
        return chosen

    def _remove(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            self._level(ticket).remove(ticket)


class RoundRobin:
    """The waiting requests of one priority, a queue for each workflow."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._deficit: dict[str, float] = {}
        self._served = ""  # the workflow whose turn it was last

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def __iter__(self) -> Iterator[Ticket]:
        return (ticket for queue in self._queues.values() for ticket in queue)

    def queue(self, workflow_id: str) -> deque[Ticket]:
        """Return a workflow's queue, made when there is none: at the end, but before who is served now."""
        if workflow_id not in self._queues:
            self._deficit[workflow_id] = 0.0
            self._queues[workflow_id] = deque()
            if self._served in self._queues:
                self._queues.move_to_end(self._served)
        return self._queues[workflow_id]

    def next_ticket(self) -> Ticket:
        """Go round until a workflow can pay for its first request, and return that; there must be one."""
        while True:
            for workflow_id, queue in self._queues.items():
                self._deficit[workflow_id] += QUANTUM
                if self._deficit[workflow_id] >= queue[0].cost:
                    return queue[0]

    def pay(self, ticket: Ticket) -> None:
        """Charge a request to its workflow."""
        self._deficit[ticket.workflow_id] -= ticket.cost

    def turn_over(self, workflow_id: str) -> None:
        """Let the other workflows go before this one next time."""
        self._served = workflow_id
        self._queues.move_to_end(workflow_id)

    def remove(self, ticket: Ticket) -> None:
        """Take a request out.

        A workflow without waiting requests keeps no credit, as the algorithm asks; its debt ends too.
        """
        queue = self._queues[ticket.workflow_id]
        queue.remove(ticket)
        if not queue:
            del self._queues[ticket.workflow_id]
            del self._deficit[ticket.workflow_id]
