"""What a handler gives back."""

from __future__ import annotations

from dataclasses import dataclass

from .protocol.messages import Request


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply and the inline tensors that go with it."""

    message: Request
    payloads: tuple[memoryview, ...] = ()
