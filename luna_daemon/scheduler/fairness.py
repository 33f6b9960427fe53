"""Whose turn it is: a bounded queue with deficit round robin across workflows.

Each workflow has a queue of its own. On its turn a workflow earns a quantum and pays the cost of the
request it sends; what rides along in a batch is charged to its own workflow, which may fall into debt
and then skips turns. A flooding workflow therefore delays only itself.
Source: Shreedhar & Varghese, Efficient Fair Queueing using Deficit Round Robin, 1995.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from ..errors import RejectedError
from .batching import Ticket, take_compatible

QUANTUM = 1.0


class FairQueue:
    """Waiting requests of one device."""

    def __init__(self, max_waiting: int, max_batch: int) -> None:
        self.max_waiting = max_waiting
        self.max_batch = max_batch
        self._queues: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._deficit: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

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
        self._queue(ticket.workflow_id).append(ticket)

    def push_front(self, ticket: Ticket) -> None:
        """Let a request that was already taken wait again, before all others of its workflow."""
        self._queue(ticket.workflow_id).appendleft(ticket)

    def take(self) -> list[Ticket]:
        """Return the requests to run next, or an empty list."""
        if not self._queues:
            return []
        workflow_id = self._next_workflow()
        batch = take_compatible(self._queues[workflow_id][0], self._waiting(), self.max_batch)
        for ticket in batch:
            self._deficit[ticket.workflow_id] -= ticket.cost
            self._queues[ticket.workflow_id].remove(ticket)
        self._queues.move_to_end(workflow_id)
        self._forget_empty()
        return batch

    def remove(self, ticket_id: int) -> Ticket | None:
        """Take out one request that was cancelled; None when it does not wait (any more)."""
        found = next((t for t in self._waiting() if t.id == ticket_id), None)
        if found is not None:
            self._queues[found.workflow_id].remove(found)
            self._forget_empty()
        return found

    def expire(self, now: float) -> list[Ticket]:
        """Take out every request whose deadline has passed."""
        late = [ticket for ticket in self._waiting() if ticket.deadline <= now]
        for ticket in late:
            self._queues[ticket.workflow_id].remove(ticket)
        self._forget_empty()
        return late

    def longest_wait(self, now: float) -> float:
        """Seconds that the oldest request has waited; 0 without one."""
        return max((now - ticket.enqueued_at for ticket in self._waiting()), default=0.0)

    def _queue(self, workflow_id: str) -> deque[Ticket]:
        self._deficit.setdefault(workflow_id, 0.0)
        return self._queues.setdefault(workflow_id, deque())

    def _waiting(self) -> list[Ticket]:
        return [ticket for queue in self._queues.values() for ticket in queue]

    def _next_workflow(self) -> str:
        """Go round until a workflow can pay for its first request."""
        while True:
            for workflow_id, queue in self._queues.items():
                self._deficit[workflow_id] += QUANTUM
                if self._deficit[workflow_id] >= queue[0].cost:
                    return workflow_id

    def _forget_empty(self) -> None:
        """A workflow without waiting requests keeps no credit, as the algorithm asks; debt ends too."""
        for workflow_id in [w for w, queue in self._queues.items() if not queue]:
            del self._queues[workflow_id]
            del self._deficit[workflow_id]
