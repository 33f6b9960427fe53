"""Numbered inputs: the values of a node whose slots open one after the other.

A slot's inputs carry its number: `lora_2`, `strength_2`, or `lora_2_enabled`. Each slot but the first
comes nested in the one before it, as `slot_2` in `slot_1`, so that a slot that is not open does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Slot = dict[str, Any]  # name without the number → value


def read_slots(values: Mapping[str, Any]) -> dict[int, Slot]:
    """Return the slots by number, in ascending order; what has no number is left out."""
    slots: dict[int, Slot] = {}
    for name, value in _flat(values).items():
        number, base = _split(name)
        if number is not None:
            slots.setdefault(number, {})[base] = value
    return dict(sorted(slots.items()))


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            # A nested input holds its own choice under its own name.
            found.update(_flat(value))
        else:
            found[name] = value
    return found


def _split(name: str) -> tuple[int | None, str]:
    parts = name.split("_")
    places = [place for place, part in enumerate(parts) if part.isdecimal()]
    if len(places) != 1:
        return None, name
    number = int(parts.pop(places[0]))
    return number, "_".join(parts)
