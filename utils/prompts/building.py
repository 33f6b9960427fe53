"""A prompt from its parts, in the order in which they belong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parts:
    """What a prompt is put together from; each may be empty."""

    prefix: str
    embeddings: str
    prompt: str
    loras: str
    suffix: str

    def full(self) -> str:
        """Return everything with commas between the parts, and none too many."""
        parts = (self.prefix, self.embeddings, self.prompt, self.loras, self.suffix)
        bare = (part.strip().strip(",").strip() for part in parts)
        return ", ".join(part for part in bare if part)


def tags_with(incoming: str, tags: Iterable[str]) -> str:
    """Return LoRA tags with spaces between them, behind those that came in."""
    return " ".join(part for part in (incoming.strip(), *tags) if part)
