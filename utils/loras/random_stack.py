"""LoRAs with random strengths: which slots take part, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..seeded_draw import SeededDraw, Steps
from .stack import LoraEntry


@dataclass(frozen=True, slots=True)
class RandomSlot:
    """A LoRA that may be drawn.

    Attributes:
        number: Of the slot; it decides what the seed gives it.
        name: Its file.
        model: Strengths for the diffusion model.
        clip: Strengths for the text encoders; None: the model's.
        chance: That it takes part, 0 to 1.
    """

    number: int
    name: str
    model: Steps
    clip: Steps | None = None
    chance: float = 1.0


def draw_stack(slots: Sequence[RandomSlot], pick_count: int, seed: int) -> tuple[LoraEntry, ...]:
    """Draw LoRAs and their strengths. What one slot gets depends on the seed and its number alone.

    Args:
        slots: In the order in which they are applied.
        pick_count: How many of those that take part are kept; 0: all.
        seed: Any number.
    """
    drawn = []
    for slot in slots:
        stream = SeededDraw(seed, f"slot {slot.number}")
        takes_part, rank = stream.happens(slot.chance), stream.fraction()
        model = stream.number(slot.model)
        clip = stream.number(slot.clip) if slot.clip else model
        if takes_part:
            drawn.append((rank, LoraEntry(slot.name, model, clip)))
    ranks = sorted(rank for rank, _ in drawn)
    kept = set(ranks[:pick_count] if pick_count else ranks)
    return tuple(entry for rank, entry in drawn if rank in kept)
