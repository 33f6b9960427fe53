from __future__ import annotations

import pytest
import torch
from luna_collection.utils.conditioning.vision import with_vision
from luna_collection.utils.errors import InputError

TEXT = torch.arange(12, dtype=torch.float32).reshape(1, 3, 4)


def conditioning() -> list:
    return [[TEXT.clone(), {"pooled_output": "p", "attention_mask": torch.ones(1, 3)}]]


def embed(kind: str, *shape: int) -> dict:
    return {"type": kind, "embedding": torch.full(shape, 2.0)}


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 5, 4)])
def test_a_clip_vision_embed_is_added_once(shape):
    given = conditioning()
    ((text, options),) = with_vision(given, embed("clip_vision", *shape), 0.5)
    assert torch.equal(text, TEXT + 1.0)
    assert options["pooled_output"] == "p"
    assert torch.equal(given[0][0], TEXT)


def test_vision_tokens_come_before_the_text_and_into_its_mask():
    given = conditioning()
    ((text, options),) = with_vision(given, embed("qwen3_vision", 1, 2, 4), 0.5)
    assert torch.equal(text, torch.cat([torch.full((1, 2, 4), 1.0), TEXT], dim=1))
    assert options["attention_mask"].shape == (1, 5)
    assert given[0][1]["attention_mask"].shape == (1, 3)


def test_another_embed_is_left_for_whoever_knows_it():
    other = embed("siglip", 9)
    ((text, options),) = with_vision(conditioning(), other, 0.7)
    assert torch.equal(text, TEXT)
    assert (options["vision_embed"], options["vision_strength"]) == (other, 0.7)


def test_a_batch_of_texts_takes_one_image():
    pair = [[TEXT.repeat(2, 1, 1), {}]]
    ((text, _),) = with_vision(pair, embed("clip_vision", 1, 4), 1.0)
    assert torch.equal(text, TEXT.repeat(2, 1, 1) + 2.0)
    with pytest.raises(InputError, match="of 3 images, the text of 2"):
        with_vision(pair, embed("clip_vision", 3, 4), 1.0)


def test_no_strength_changes_nothing():
    given = conditioning()
    assert with_vision(given, embed("clip_vision", 4), 0.0) is given


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"type": "clip_vision"}, "no LUNA_VISION_EMBED"),
        ("x", "no LUNA_VISION_EMBED"),
        (embed("clip_vision", 1, 5), r"shape \(1, 5\).*4 wide"),
        (embed("qwen3_vision", 1, 1, 2, 4), "shape"),
    ],
)
def test_what_does_not_fit_is_said(value, said):
    with pytest.raises(InputError, match=said):
        with_vision(conditioning(), value, 1.0)
