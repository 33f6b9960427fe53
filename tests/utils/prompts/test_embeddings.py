from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from luna_collection.utils.errors import InputError
from luna_collection.utils.prompts.embeddings import (
    EmbeddingUse,
    RandomEmbedding,
    append,
    draw_weights,
    reference,
    references,
)
from luna_collection.utils.seeded_draw import Steps


@pytest.mark.parametrize(
    ("name", "weight", "written"),
    [
        ("bad.safetensors", 1.0, "embedding:bad"),
        ("bad.pt", 1.1, "(embedding:bad:1.10)"),
        ("neg/easy.v2.safetensors", 0.5, "(embedding:neg/easy.v2:0.50)"),
        ("neg\\easy.bin", -1.0, "(embedding:neg/easy:-1.00)"),
        ("hands.v4", 1.0, "embedding:hands.v4"),
        ("fix(1).pt", 1.0, "embedding:fix\\(1\\)"),
        ("a.pt", 0.125, "(embedding:a:0.125)"),
        ("a.pt", 0.0, "(embedding:a:0.00)"),
    ],
)
def test_an_embedding_is_written_as_comfyui_reads_it(name, weight, written):
    assert reference(EmbeddingUse(name, weight)) == written


def test_a_name_that_comfyui_cannot_read_is_refused():
    with pytest.raises(InputError, match="space"):
        reference(EmbeddingUse("bad hands.pt"))


def test_several_are_listed():
    assert references([EmbeddingUse("a"), EmbeddingUse("b", 2.0)]) == (
        "embedding:a, (embedding:b:2.00)"
    )


@pytest.mark.parametrize(
    ("text", "added", "result"),
    [
        ("", "x", "x"),
        ("a", "", "a"),
        ("a, ", "x", "a, x"),
        ("a,\n", "x", "a, x"),
        ("", "", ""),
    ],
)
def test_a_text_gets_something_at_its_end(text, added, result):
    assert append(text, added) == result


@given(st.integers(0, 2**64 - 1))
def test_weights_depend_on_seed_and_slot_alone(seed):
    slots = [RandomEmbedding(n, f"e{n}", Steps(0.5, 1.5, 0.05)) for n in (1, 2, 3)]
    drawn = draw_weights(slots, seed)
    assert drawn == draw_weights(slots, seed)
    assert draw_weights(slots[2:], seed) == drawn[2:]
    assert all(0.5 <= use.weight <= 1.5 for use in drawn)
