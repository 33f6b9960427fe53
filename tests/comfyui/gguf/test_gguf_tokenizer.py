"""A tokenizer that went through a GGUF file's metadata gives the tokens that it gave before."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sits",
    "on",
    "mat",
    "under",
    "tree",
    "house",
    "of",
    "highly",
    "detailed",
    "猫",
    "狗",
    "日本",
    "été",
    "über",
    "naïve",
    "ﬁne",
    "ＡＢＣ",
]
TEXTS = ["  two  spaces ", "ＡＢＣ ﬁ x", "emoji 😀 zzz", "", "\n\t", "the  cat of a house"]


@pytest.mark.parametrize("tidy", [True, False])
@pytest.mark.parametrize("rule", ["nmt_nfkc", "identity"])
@pytest.mark.parametrize(("model_type", "kind"), [("unigram", "t5"), ("bpe", "llama")])
def test_tokens_are_equal(model_type, kind, rule, tidy):
    import sentencepiece
    from luna_collection.utils.weights.gguf_tokenizer import sentencepiece_model

    original = trained(model_type, rule, tidy)
    rebuilt = sentencepiece_model("x.gguf", header(kind, metadata_of(original)))
    before, after = (
        sentencepiece.SentencePieceProcessor(model_proto=model, add_bos=False, add_eos=True)
        for model in (original, rebuilt)
    )
    texts = [*TEXTS, *sentences(50)]
    assert [after.encode(text) for text in texts] == [before.encode(text) for text in texts]
    for name in ("get_piece_size", "unk_id", "bos_id", "eos_id", "pad_id"):
        assert getattr(after, name)() == getattr(before, name)()


def test_a_file_without_one_is_refused():
    from luna_collection.utils.errors import ModelFileError
    from luna_collection.utils.weights.gguf_tokenizer import sentencepiece_model

    whole = metadata_of(trained("unigram", "identity", True))
    for changed in ({"scores": (1.0,)}, {"tokens": ()}, {"token_type": 3}):
        with pytest.raises(ModelFileError, match=r"'x\.gguf' holds no SentencePiece tokenizer"):
            sentencepiece_model("x.gguf", header("t5", {**whole, **changed}))
    with pytest.raises(ModelFileError, match=r"tokenizer\.ggml\.model is 'gpt2'"):
        sentencepiece_model("x.gguf", header("gpt2", whole))


def sentences(count: int) -> list[str]:
    chance = random.Random(count)
    return [" ".join(chance.choices(WORDS, k=8)) for _ in range(count)]


def trained(model_type: str, rule: str, tidy: bool) -> bytes:
    """Return a small tokenizer of our own."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(2000)),
        model_writer=made,
        model_type=model_type,
        vocab_size=400,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name=rule,
        remove_extra_whitespaces=tidy,
        add_dummy_prefix=tidy,
        unk_id=2,
        bos_id=-1,
        eos_id=1,
        pad_id=0,
        minloglevel=2,
    )
    return made.getvalue()


def header(kind: str, metadata: dict[str, Any]) -> Any:
    from luna_collection.utils.weights.gguf_header import GgufHeader

    named = {f"tokenizer.ggml.{key}": value for key, value in {"model": kind, **metadata}.items()}
    return GgufHeader("t5", MappingProxyType(named), MappingProxyType({}), "", 0, 0, 32)


def metadata_of(model: bytes) -> dict[str, Any]:
    """Return what llama.cpp's converter writes of a tokenizer."""
    parts = list(fields(model))
    pieces = [dict(fields(content)) for number, content in parts if number == 1]
    rules = dict(fields(next(content for number, content in parts if number == 3)))
    return {
        "tokens": tuple(str(piece[1], "utf-8") for piece in pieces),
        "scores": tuple(piece.get(2, 0.0) for piece in pieces),
        "token_type": tuple(piece.get(3, 1) for piece in pieces),
        "add_space_prefix": bool(rules.get(3, 1)),
        "remove_extra_whitespaces": bool(rules.get(4, 1)),
        "precompiled_charsmap": tuple(rules.get(2, b"")),
        "unknown_token_id": 2,
        "eos_token_id": 1,
        "padding_token_id": 0,
    }


def fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a message in protocol buffers."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = raw[place]
            place, value, shift = place + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while place < len(raw):
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, number()
        elif tag & 7 == 2:
            length = number()
            place += length
            yield tag >> 3, raw[place - length : place]
        else:
            assert tag & 7 == 5
            place += 4
            yield tag >> 3, struct.unpack("<f", raw[place - 4 : place])[0]
