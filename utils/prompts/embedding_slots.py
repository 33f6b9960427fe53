"""From the slots of an embedding node to embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..seeded_draw import Steps
from ..slots import Slot, read_slots
from .embeddings import EmbeddingUse, RandomEmbedding


def fixed_uses(values: Mapping[str, Any]) -> list[EmbeddingUse]:
    """Return the embeddings of `embedding_name_i`, `weight_i` and `embedding_i_enabled`."""
    return [
        EmbeddingUse(slot["embedding_name"], float(slot["weight"])) for _, slot in _chosen(values)
    ]


def random_uses(values: Mapping[str, Any]) -> list[RandomEmbedding]:
    """Return the embeddings of the same with `min_weight_i`, `max_weight_i` and `precision_i`."""
    return [
        RandomEmbedding(
            number,
            slot["embedding_name"],
            Steps(float(slot["min_weight"]), float(slot["max_weight"]), float(slot["precision"])),
        )
        for number, slot in _chosen(values)
    ]


def _chosen(values: Mapping[str, Any]) -> Iterator[tuple[int, Slot]]:
    for number, slot in read_slots(values).items():
        name = slot.get("embedding_name")
        if slot.get("embedding_enabled", True) and isinstance(name, str) and name != "None":
            yield number, slot
