"""Textual inversion embeddings, as ComfyUI's prompts name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..seeded_draw import SeededDraw, Steps

_EXTENSIONS = (".safetensors", ".sft", ".pt", ".bin")


@dataclass(frozen=True, slots=True)
class EmbeddingUse:
    """An embedding and its weight."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class RandomEmbedding:
    """An embedding with a random weight. Its slot's number decides what the seed gives it."""

    number: int
    name: str
    weights: Steps


def reference(use: EmbeddingUse) -> str:
    """Return `embedding:name`, or `(embedding:name:1.10)` where the weight is not 1.

    Raises:
        InputError: ComfyUI would not find an embedding of this name in a text.
    """
    name = _written(use.name)
    if use.weight == 1:
        return f"embedding:{name}"
    return f"(embedding:{name}:{_number(use.weight)})"


def references(uses: Iterable[EmbeddingUse]) -> str:
    """Return the references with commas between them."""
    return ", ".join(reference(use) for use in uses)


def append(text: str, added: str) -> str:
    """Return a prompt with something added at its end."""
    before = text.rstrip().rstrip(",").rstrip()
    return ", ".join(part for part in (before, added) if part)


def draw_weights(slots: Sequence[RandomEmbedding], seed: int) -> tuple[EmbeddingUse, ...]:
    """Give every embedding a random weight."""
    return tuple(
        EmbeddingUse(slot.name, SeededDraw(seed, f"slot {slot.number}").number(slot.weights))
        for slot in slots
    )


def _written(name: str) -> str:
    # ComfyUI tries the extensions itself, and takes "/" on every platform.
    plain = name.strip().replace("\\", "/")
    ending = next((end for end in _EXTENSIONS if plain.lower().endswith(end)), "")
    plain = plain[: len(plain) - len(ending)]
    if not plain or any(character.isspace() for character in plain):
        raise InputError(
            f"ComfyUI cannot read the embedding '{name}' in a prompt: its name has a space.",
            "Rename the file, for example with '_' for each space.",
        )
    return plain.replace("(", "\\(").replace(")", "\\)")


def _number(value: float) -> str:
    return f"{value:.2f}" if round(value, 2) == value else repr(value)
