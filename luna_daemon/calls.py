"""One call of a client while it waits: what it looks after, and what has come for it."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import DaemonError, DeadlineError
from .protocol import messages as m
from .protocol.framing import Frame
from .protocol.segments import Segment
from .transport.arena import ArenaReader
from .transport.connection import Deadline
from .transport.result_memory import ResultMemory

if TYPE_CHECKING:
    import torch

PATIENCE_S = 7 * 24 * 3600.0  # more than any work takes, and the most that a request may say


@dataclass(frozen=True, slots=True)
class Watch:
    """What a waiting call looks after.

    Attributes:
        deadline: When to give up.
        interrupt: Called every 50 ms; whatever it raises ends the call and cancels the request.
        on_progress: Told of finished steps: done, total.
        on_note: Told what was done otherwise than asked.
        priority: 0 is served before 1, and 1 before 2.
        patient: Whether the deadline is only for signs of life: a daemon that shows one gets it once more.
    """

    deadline: Deadline
    interrupt: Callable[[], None] | None = None
    on_progress: Callable[[int, int], None] | None = None
    on_note: Callable[[str], None] | None = None
    priority: int = 1
    patient: bool = False

    @property
    def work_s(self) -> float:
        """Seconds that the daemon may take for the work."""
        return PATIENCE_S if self.patient else self.deadline.remaining()

    def check(self) -> None:
        """Raise what ends the wait, when there is such a thing."""
        if self.interrupt is not None:
            self.interrupt()
        if self.deadline.expired:
            raise DeadlineError(
                f"The daemon gave no answer within {self.deadline.seconds:g} s.",
                "Raise request_timeout_s, or look at 'luna-daemon status' for what it is doing.",
            )


@functools.cache
def _unpack() -> Callable[..., list[torch.Tensor]]:
    """Import what needs torch, once: also an import that finds its module costs every reply."""
    from .transport.tensors import unpack

    return unpack


@dataclass(frozen=True, slots=True)
class RawReply:
    """A reply as it came, the arenas that its tensors may lie in, and memory to copy them to."""

    message: m.Request
    frame: Frame
    readers: Mapping[int, ArenaReader]
    memory: ResultMemory

    def unpacked(self) -> LinkReply:
        """Return it with its tensors, copied out of shared memory."""
        if not self.message.segments:
            return LinkReply(self.message)
        segments, payloads = self.message.segments, self.frame.payloads
        return LinkReply(self.message, _unpack()(segments, payloads, self.readers, self.memory))


@dataclass(slots=True, eq=False)
class Pending:
    """A request under way."""

    watch: Watch
    uploads: tuple[Segment, ...]
    reply: RawReply | None = None
    error: DaemonError | None = None
    abandoned: bool = False
    events: deque[m.Progress | m.Notice] = field(default_factory=deque)

    def tell_events(self) -> None:
        """Call back for what has come since the last time."""
        while self.events:
            event = self.events.popleft()
            if isinstance(event, m.Progress):
                if self.watch.on_progress:
                    self.watch.on_progress(event.done, event.total)
            elif self.watch.on_note:
                self.watch.on_note(event.text)


@dataclass(frozen=True, slots=True)
class LinkReply:
    """A reply and the tensors that came with it."""

    message: m.Request
    tensors: list[torch.Tensor] = field(default_factory=list)
