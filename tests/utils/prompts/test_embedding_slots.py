from __future__ import annotations

from luna_collection.utils.prompts.embedding_slots import fixed_uses, random_uses
from luna_collection.utils.prompts.embeddings import EmbeddingUse, RandomEmbedding
from luna_collection.utils.seeded_draw import Steps

VALUES = {
    "embedding_1_enabled": True,
    "embedding_name_1": "a.pt",
    "weight_1": 1,
    "min_weight_1": 0,
    "max_weight_1": 2,
    "precision_1": 0.5,
    "slot_2": {
        "slot_2": "filled",
        "embedding_2_enabled": False,
        "embedding_name_2": "b.pt",
        "weight_2": 1.5,
        "slot_3": {"slot_3": "filled", "embedding_3_enabled": True, "embedding_name_3": "None"},
    },
}


def test_slots_that_are_off_or_empty_are_left_out():
    assert fixed_uses(VALUES) == [EmbeddingUse("a.pt", 1.0)]
    assert random_uses(VALUES) == [RandomEmbedding(1, "a.pt", Steps(0.0, 2.0, 0.5))]
