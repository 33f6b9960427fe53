"""Trigger words into a prompt, without those that it has already."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from .trigger_sets import TriggerSet


class InjectionMode(str, Enum):
    """Where the words go."""

    PREPEND = "prepend"
    APPEND = "append"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Injection:
    """How words are put into a prompt.

    Attributes:
        mode: Where they go.
        most: Words of one LoRA at most.
        separator: Between words, and between words and prompt.
        deduplicate: Leave out words that the prompt or an earlier LoRA has.
    """

    mode: InjectionMode = InjectionMode.APPEND
    most: int = 5
    separator: str = ", "
    deduplicate: bool = True


def words_to_add(
    prompt: str, of_loras: Iterable[Sequence[TriggerSet]], how: Injection
) -> tuple[str, ...]:
    """Return the words of several LoRAs, in their order. Case does not make two words different."""
    added: list[str] = []
    for sets in of_loras:
        words = list(dict.fromkeys(word for each in sets for word in each.words))
        if how.deduplicate:
            words = _without_repeats(words, prompt, added)
        added += words[: how.most]
    return tuple(added)


def inject(prompt: str, words: Sequence[str], how: Injection) -> str:
    """Return the prompt with the words."""
    if how.mode is InjectionMode.NONE or not words:
        return prompt
    added = how.separator.join(words)
    trimmed = prompt.strip().strip(",").strip()
    if not trimmed:
        return added
    parts = (added, trimmed) if how.mode is InjectionMode.PREPEND else (trimmed, added)
    return how.separator.join(parts)


def has_phrase(prompt: str, phrase: str) -> bool:
    """Tell whether a prompt has a phrase as whole words, in any case; spaces and "_" are the same."""
    wanted = _plain(phrase)
    pattern = rf"(?<!\w){re.escape(wanted)}(?!\w)"
    return bool(wanted) and re.search(pattern, _plain(prompt)) is not None


def _without_repeats(words: Iterable[str], prompt: str, added: Iterable[str]) -> list[str]:
    seen = {_plain(word) for word in added}
    kept = []
    for word in words:
        if _plain(word) not in seen and not has_phrase(prompt, word):
            kept.append(word)
        seen.add(_plain(word))
    return kept


def _plain(text: str) -> str:
    # A backslash before a bracket only keeps ComfyUI from reading a weight.
    return " ".join(text.replace("\\", "").replace("_", " ").casefold().split())
