"""The files of a byte-level CLIP tokenizer with some 560 tokens, which can spell every text.

256 bytes, the same 256 at the end of a word, a few merges of frequent English letters, and the two
special tokens, whose ids are the highest, as in the published vocabulary.
Source: the byte table of OpenAI's GPT-2 and CLIP tokenizers.
"""

from __future__ import annotations

import json
from pathlib import Path

TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
_MERGES = (
    "t h", "th e</w>", "i n", "a n", "an d</w>", "in g</w>", "o f</w>", "o n</w>", "e r</w>",
    "a t</w>", "e d</w>", "o u", "e n", "r e", "s t", "a r", "a l", "o r", "l i", "li g", "lig h",
    "ligh t</w>", "c at</w>", "c o", "co l", "o r</w>", "col or</w>", "p h", "ph o", "pho t", "phot o</w>",
    "i s</w>", "w i", "t h</w>", "wi th</w>", "s h", "r o", "b l",
)  # fmt: skip


def write_tokenizer(folder: Path, pad: str) -> int:
    """Write a tokenizer's folder.

    Args:
        folder: Where to; made if missing.
        pad: The token that fills short texts up: the end token, or "!" as in SDXL's second.

    Returns:
        The number of tokens.
    """
    symbols = _byte_symbols()
    tokens = [*symbols, *(symbol + END_OF_WORD for symbol in symbols)]
    tokens += ["".join(merge.split()) for merge in _MERGES]
    tokens += [START, END]
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        **special,
    }
    folder.mkdir(parents=True, exist_ok=True)
    texts = (
        json.dumps({token: number for number, token in enumerate(tokens)}),
        "\n".join(["#version: 0.2", *_MERGES, ""]),
        json.dumps(config, indent=2),
        json.dumps(special, indent=2),
    )
    for name, text in zip(TOKENIZER_FILES, texts, strict=True):
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return len(tokens)


def _byte_symbols() -> list[str]:
    """Return the printable character that stands for each byte; `!` comes first, with the id 0."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
