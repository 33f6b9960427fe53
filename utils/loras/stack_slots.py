"""From the slots of a stacker node to LoRAs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..seeded_draw import Steps
from ..slots import Slot, read_slots
from .random_stack import RandomSlot
from .stack import NO_LORA, LoraEntry, read_stack, to_tuples


def fixed_entries(values: Mapping[str, Any]) -> list[LoraEntry]:
    """Return the LoRAs of a stacker: `lora_i`, `model_strength_i`, `clip_strength_i`, `enabled_i`."""
    return [
        LoraEntry(slot["lora"], float(slot["model_strength"]), float(slot["clip_strength"]))
        for slot in read_slots(values).values()
        if slot.get("enabled", True) and _is_chosen(slot.get("lora"))
    ]


def random_slots(values: Mapping[str, Any]) -> list[RandomSlot]:
    """Return what a random stacker draws from: `lora_name_i`, `lora_i_enabled` and bounds."""
    return [
        RandomSlot(
            number,
            slot["lora_name"],
            _steps(slot, "model"),
            _steps(slot, "clip") if "min_clip_strength" in slot else None,
            float(slot.get("chance", 1.0)),
        )
        for number, slot in read_slots(values).items()
        if slot.get("lora_enabled", True) and _is_chosen(slot.get("lora_name"))
    ]


def stacked(incoming: object, entries: Iterable[LoraEntry]) -> list[tuple[str, float, float]]:
    """Return a new LORA_STACK: what came in, whatever its form, and the entries behind it."""
    return to_tuples((*read_stack(incoming), *entries))


def _steps(slot: Slot, part: str) -> Steps:
    return Steps(
        float(slot[f"min_{part}_strength"]),
        float(slot[f"max_{part}_strength"]),
        float(slot[f"precision_{part}"]),
    )


def _is_chosen(name: object) -> bool:
    return isinstance(name, str) and name.strip().lower() not in NO_LORA
