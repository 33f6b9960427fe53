"""The LoRAs that a list of prompts asks for, and which of them are on this machine.

A list is JSON: `[{"positive_prompt": …, "loras": [{"name", "model_strength", "clip_strength"}], …}]`. A LoRA
may also be written as its name alone, and stand as `<lora:name:weight>` in a prompt.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .names import resolve

_PROMPTS = ("positive_prompt", "negative_prompt", "positive", "negative", "prompt")
_TAG = re.compile(r"<(?:lora|lyco):([^:<>]+)[^<>]*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WantedLora:
    """A LoRA that a list asks for.

    Attributes:
        name: As written.
        uses: How often.
        file: What it is on this machine; "" where it is missing.
        problem: Why it is missing: there is none, or several would fit.
    """

    name: str
    uses: int
    file: str = ""
    problem: str = ""


def names_in_list(text: str, file: str) -> Counter[str]:
    """Return the LoRA names of a list, with how often each is used.

    Raises:
        InputError: It is no list of prompts.
    """
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"'{file}' is not valid JSON: {error}.", "Make it anew, or correct it in a text editor."
        ) from error
    if not isinstance(loaded, list):
        raise InputError(
            f"'{file}' is not a list of prompts.",
            'It has to look like this: [{"positive_prompt": "…", "loras": [{"name": "…"}]}].',
        )
    return Counter(
        name for place, entry in enumerate(loaded, start=1) for name in _names(entry, place, file)
    )


def find_wanted(uses: Mapping[str, int], known: Sequence[str]) -> tuple[WantedLora, ...]:
    """Look every name up among the LoRAs of this machine, in the order of the list."""
    return tuple(_look_up(name, count, known) for name, count in uses.items())


def _look_up(name: str, count: int, known: Sequence[str]) -> WantedLora:
    try:
        return WantedLora(name, count, resolve(name, known))
    except InputError as error:
        return WantedLora(name, count, problem=error.message)


def _names(entry: Any, place: int, file: str) -> Iterator[str]:
    if isinstance(entry, str):
        yield from _tags([entry])
        return
    if not isinstance(entry, dict):
        raise InputError(
            f"Entry {place} of '{file}' is no prompt.",
            "An entry is a table with 'positive_prompt'.",
        )
    loras = entry.get("loras")
    for lora in loras if isinstance(loras, list) else ():
        name = lora.get("name") if isinstance(lora, dict) else lora
        if not isinstance(name, str) or not name.strip():
            raise InputError(
                f"Entry {place} of '{file}' has a LoRA without a name.",
                "A LoRA is a name, or a table with 'name'.",
            )
        yield name.strip()
    yield from _tags(entry.get(field) for field in _PROMPTS)


def _tags(texts: Iterable[Any]) -> Iterator[str]:
    for text in texts:
        if isinstance(text, str):
            yield from (name.strip() for name in _TAG.findall(text))
