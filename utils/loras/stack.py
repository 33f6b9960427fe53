"""LORA_STACK: which LoRAs, with which strengths.

Several node packs make and read this socket type, each in a slightly different form: tuples or lists
`(name, model strength, clip strength)`, sometimes with more behind them, or dicts. All of them are read;
what we give on is the form that everybody reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ..errors import InputError

# What packs put into a slot without a LoRA.
NO_LORA = frozenset({"", "none"})
_NAMES = ("lora", "name", "lora_name", "file_name")
_BOTH = ("strength", "weight")
_MODEL = ("model_strength", "strength_model", "model_weight", *_BOTH)
_CLIP = ("clip_strength", "strength_clip", "clip_weight", "clipStrength", "strengthTwo")
_SWITCHES = ("enabled", "on", "active")


@dataclass(frozen=True)
class LoraEntry:
    """One LoRA and how strongly it works.

    Attributes:
        name: Its file, as it was written; `names.resolve` says which file is meant.
        model_strength: For the diffusion model.
        clip_strength: For the text encoders.
        block_weights: A factor for each block, or a preset's name; "" for 1 everywhere.
    """

    name: str
    model_strength: float
    clip_strength: float
    block_weights: str = ""


def read_stack(value: object) -> tuple[LoraEntry, ...]:
    """Return the entries of a LORA_STACK as any pack makes it; slots without a LoRA are left out.

    Raises:
        InputError: Something in it is no LoRA; the message shows it.
    """
    if _is_empty(value):
        return ()
    if not isinstance(value, (list, tuple)):
        raise InputError(
            f"This is no LORA_STACK: {_shown(value)}.",
            "A LORA_STACK is a list of (name, model strength, clip strength).",
        )
    entries = (_read(item, place) for place, item in enumerate(value, start=1))
    return tuple(entry for entry in entries if entry is not None)


def to_tuples(entries: Iterable[LoraEntry]) -> list[tuple[str, float, float]]:
    """Return a new LORA_STACK in the form that every pack reads."""
    return [(entry.name, entry.model_strength, entry.clip_strength) for entry in entries]


def merge(
    stack: Sequence[LoraEntry],
    tags: Sequence[LoraEntry],
    key: Callable[[str], str] = str.lower,
) -> tuple[LoraEntry, ...]:
    """Return each LoRA once: a prompt's tag beats the stack, and later beats earlier.

    A LoRA keeps the place where it came first, so that changing its strength changes no order.

    Args:
        stack: From LORA_STACK.
        tags: From prompts, in their order.
        key: What makes two names the same LoRA.
    """
    merged: dict[str, LoraEntry] = {}
    for entry in (*stack, *tags):
        merged[key(entry.name)] = entry
    return tuple(merged.values())


def _read(item: object, place: int) -> LoraEntry | None:
    if _is_empty(item):
        return None
    if isinstance(item, LoraEntry):
        return item
    if isinstance(item, Mapping):
        return _read_mapping(item, place)
    if isinstance(item, (list, tuple)) and item:
        return _read_sequence(item, place)
    raise _bad(item, place, "it is neither a tuple nor a dict")


def _read_sequence(item: Sequence[Any], place: int) -> LoraEntry | None:
    if _is_empty(item[0]):
        return None
    if len(item) < 2:
        raise _bad(item, place, "it has no strength")
    model = _number(item[1], item, place)
    clip = _number(item[2], item, place) if len(item) > 2 and item[2] is not None else model
    return LoraEntry(_name(item[0], item, place), model, clip)


def _read_mapping(item: Mapping[Any, Any], place: int) -> LoraEntry | None:
    name = _first(item, _NAMES)
    if _is_empty(name) or not all(item.get(switch, True) for switch in _SWITCHES):
        return None
    model = _first(item, _MODEL)
    if model is None:
        raise _bad(item, place, "it has no strength")
    clip = _first(item, _CLIP)
    strength = _number(model, item, place)
    return LoraEntry(
        _name(name, item, place),
        strength,
        strength if clip is None else _number(clip, item, place),
        str(item.get("block_weights") or ""),
    )


def _first(item: Mapping[Any, Any], names: Iterable[str]) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)


def _is_empty(name: object) -> bool:
    return name is None or (isinstance(name, str) and name.strip().lower() in NO_LORA)


def _name(value: object, item: object, place: int) -> str:
    if not isinstance(value, str):
        raise _bad(item, place, "its name is no text")
    return value.strip()


def _number(value: object, item: object, place: int) -> float:
    if isinstance(value, bool) or not isinstance(value, (Real, str)):
        raise _bad(item, place, f"{_shown(value)} is no strength")
    try:
        number = float(value)
    except ValueError:
        raise _bad(item, place, f"{_shown(value)} is no strength") from None
    if not math.isfinite(number):
        raise _bad(item, place, f"{_shown(value)} is no strength")
    return number


def _bad(item: object, place: int, why: str) -> InputError:
    return InputError(
        f"Entry {place} of the LORA_STACK, {_shown(item)}, is no LoRA: {why}.",
        "An entry is (name, model strength, clip strength).",
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
