"""Answers that the daemon gives again by itself: no queue, no worker, also while all workers are busy.

Only of work whose result follows from the models, the model family and the request's own fields: the key
is all of these, and a model's key changes with its files. What is kept is what a worker sent, byte for
byte. Bounded by bytes; the least recently used goes first.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .protocol.segments import Segment
from .protocol.work import AnyResult, AnyWork, EncodeText
from .protocol.worker_messages import JobDone, ModelSpec
from .workers.process import Reply

ENTRY_BYTES = 2048  # what an entry takes beside its texts and tensors, about


class AnswerKey(NamedTuple):  # compared and hashed for every text, which a dataclass does slower
    """Everything that decides about an answer."""

    models: tuple[tuple[str, str], ...]  # role, model key
    model_type: str
    work: AnyWork


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A worker's answer: the result, what was said about it, and its tensors' bytes."""

    result: AnyResult
    notes: tuple[str, ...]
    segments: tuple[Segment, ...]
    payloads: tuple[memoryview, ...]


class AnswerCache:
    """A map of `AnswerKey` to `KeptAnswer`.

    Args:
        max_bytes: What all entries may take; 0: nothing is kept.
        largest: What one entry may take.
    """

    def __init__(self, max_bytes: int, largest: int) -> None:
        self.largest = min(max_bytes, largest)
        self.nbytes = 0
        self._max_bytes = max_bytes
        self._entries: OrderedDict[AnswerKey, KeptAnswer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def may_keep(self, work: AnyWork) -> bool:
        """Is this work of the kind whose answers are kept?"""
        return self.largest > 0 and isinstance(work, EncodeText)

    def key(
        self, specs: Mapping[str, ModelSpec], model_type: str, work: AnyWork
    ) -> AnswerKey | None:
        """Return the key of work whose answer may be kept; None for all other work.

        Args:
            specs: The models that do the work, role → model.
            model_type: The workflow's model family.
            work: What is asked for.
        """
        if not self.may_keep(work):
            return None
        models = tuple(sorted((role, spec.key) for role, spec in specs.items()))
        return AnswerKey(models, model_type, work)

    def get(self, key: AnswerKey) -> KeptAnswer | None:
        """Return the answer, or None."""
        answer = self._entries.get(key)
        if answer is not None:
            self._entries.move_to_end(key)
        return answer

    def put(self, key: AnswerKey, reply: Reply) -> None:
        """Keep a worker's reply, unless it is too large or lies in shared memory, which others use next."""
        done = reply.message
        if not isinstance(done, JobDone) or any(s.slot is not None for s in done.segments):
            return
        answer = KeptAnswer(done.result, done.notes, done.segments, reply.payloads)
        size = _size(key, answer)
        if size > self.largest:
            return
        self._drop(key)
        self._entries[key] = answer
        self.nbytes += size
        while self.nbytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: AnswerKey) -> None:
        answer = self._entries.pop(key, None)
        if answer is not None:
            self.nbytes -= _size(key, answer)


def _size(key: AnswerKey, answer: KeptAnswer) -> int:
    texts = key.work.texts if isinstance(key.work, EncodeText) else ()
    strings = sum(sys.getsizeof(text) for text in (*texts, *answer.notes))
    return ENTRY_BYTES + strings + sum(payload.nbytes for payload in answer.payloads)
