"""Where the LoRAs of an entry go: into the prompt as tags, into a stack, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from ..errors import InputError
from ..loras.names import resolve
from ..loras.pool import as_tags
from ..loras.stack import LoraEntry, merge
from ..prompts.lora_tags import take_tags
from .entry import PromptEntry


class LoraOutput(str, Enum):
    """Where LoRAs come out."""

    STACK_ONLY = "stack_only"
    INLINE_ONLY = "inline_only"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class PlacedLoras:
    """A prompt and its LoRAs.

    Attributes:
        positive: The prompt, with tags or without.
        stack: The LoRAs for a LORA_STACK.
        notes: What was not as written.
    """

    positive: str
    stack: tuple[LoraEntry, ...]
    notes: tuple[str, ...]


def place_loras(
    entry: PromptEntry, known: Sequence[str], output: LoraOutput, only_existing: bool
) -> PlacedLoras:
    """Return an entry's prompt and LoRAs as they are wanted.

    Each LoRA comes once: a tag in the prompt beats the list beside it.

    Args:
        entry: With LoRAs beside its prompt, and perhaps as tags in it.
        known: The LoRA files of this machine.
        output: Where they go.
        only_existing: Leave out those that are not on this machine; a note names them.

    Raises:
        InputError: A tag in the prompt cannot be read.
    """
    tagged = take_tags(entry.positive)
    notes = list(tagged.notes)
    found = []
    for lora in merge(entry.loras, tagged.loras, lambda name: _resolved(name, known)[0].lower()):
        name, problem = _resolved(lora.name, known)
        if problem and only_existing:
            notes.append(f"'{lora.name}' is left out. {problem}")
        else:
            found.append(replace(lora, name=name))
    stack = tuple(found) if output is not LoraOutput.INLINE_ONLY else ()
    if output is LoraOutput.STACK_ONLY:
        notes += [
            f"'{lora.name}' has block weights, which a LORA_STACK cannot hold: choose inline_only for it."
            for lora in stack
            if lora.block_weights
        ]
        return PlacedLoras(tagged.text, stack, tuple(notes))
    tags = as_tags(found, known)
    return PlacedLoras(
        f"{tagged.text} {tags}".strip() if tags else tagged.text, stack, tuple(notes)
    )


def _resolved(name: str, known: Sequence[str]) -> tuple[str, str]:
    """Return the file that is meant, or the name as it is and what is wrong with it."""
    try:
        return resolve(name, known), ""
    except InputError as error:
        return name, error.message
