"""The tokenizer in a GGUF file's metadata → a SentencePiece model, as ComfyUI's text encoders take it.

llama.cpp keeps pieces, scores and a few switches of the original model; written back in SentencePiece's own
format, they are the same tokenizer. Standard library only.

Source: sentencepiece_model.proto of SentencePiece; the keys `tokenizer.ggml.*` of the GGUF specification.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from ..errors import ModelFileError
from .gguf_header import GgufHeader

_BEGIN = "tokenizer.ggml."
# What a file calls its tokenizer → SentencePiece's number for that kind of model.
_MODEL_TYPES = {"t5": 1, "llama": 2}  # unigram, byte-pair encoding
_VARINT, _BYTES, _FLOAT = 0, 2, 5  # wire types of protocol buffers
_BYTE_PIECE = 6
# Fields of the trainer's settings: name in the file → number there.
_SPECIAL = {
    "unknown_token_id": 40,
    "bos_token_id": 41,
    "eos_token_id": 42,
    "padding_token_id": 43,
}


def sentencepiece_model(file_name: str, header: GgufHeader) -> bytes:
    """Return the serialised SentencePiece model of a file's tokenizer.

    Raises:
        ModelFileError: The file has none, or it is damaged.
    """
    found = {
        key.removeprefix(_BEGIN): value
        for key, value in header.metadata.items()
        if key.startswith(_BEGIN)
    }
    kind = found.get("model")
    listed = _pieces(*(found.get(name) for name in ("tokens", "scores", "token_type")))
    if kind not in _MODEL_TYPES or not listed:
        raise ModelFileError(
            f"'{file_name}' holds no SentencePiece tokenizer, which its text encoder needs "
            f"(tokenizer.ggml.model is '{str(kind)[:40]}').",
            "Choose the safetensors file of the same text encoder.",
        )
    return b"".join(
        (
            *(_bytes(1, _piece(*entry)) for entry in listed),
            _bytes(2, _trainer(found, _MODEL_TYPES[str(kind)], listed)),
            _bytes(3, _normaliser(found)),
        )
    )


def _pieces(*lists: Any) -> list[tuple[str, float, int]]:
    """Return text, score and kind of each piece; nothing where the lists do not fit together."""
    if not all(isinstance(one, tuple) for one in lists) or len(set(map(len, lists))) != 1:
        return []
    return list(zip(*lists, strict=True))


def _piece(text: str, score: float, kind: int) -> bytes:
    return _bytes(1, text.encode("utf-8", "surrogatepass")) + _float(2, score) + _number(3, kind)


def _trainer(
    found: Mapping[str, Any], model_type: int, listed: list[tuple[str, float, int]]
) -> bytes:
    falls_back = any(kind == _BYTE_PIECE for _, _, kind in listed)
    ids = b"".join(_number(field, int(found.get(name, -1))) for name, field in _SPECIAL.items())
    return _number(3, model_type) + _number(4, len(listed)) + _number(35, falls_back) + ids


def _normaliser(found: Mapping[str, Any]) -> bytes:
    charsmap = bytes(value % 256 for value in found.get("precompiled_charsmap", ()))
    prefix = bool(found.get("add_space_prefix", True))
    tidy = bool(found.get("remove_extra_whitespaces", False))
    mapped = _bytes(2, charsmap) if charsmap else b""
    return mapped + _number(3, prefix) + _number(4, tidy) + _number(5, 1)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value % (1 << 64))


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | _FLOAT) + struct.pack("<f", value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
