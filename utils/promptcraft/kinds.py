"""What a file of a library is: a category of items, or rules of some kind."""

from __future__ import annotations

import re
from enum import Enum


class Kind(str, Enum):
    """What stands in a file."""

    CATEGORY = "category"
    CONSTRAINT = "constraint"
    MODIFIER = "modifier"
    EXPANDER = "expander"
    CHAIN = "chain"
    TAGS = "tags"
    LORA = "lora"


HEADER_LINES = 10
_WORDS = {
    "constraint": Kind.CONSTRAINT,
    "constraints": Kind.CONSTRAINT,
    "modifier": Kind.MODIFIER,
    "modifiers": Kind.MODIFIER,
    "expander": Kind.EXPANDER,
    "expanders": Kind.EXPANDER,
    "chain": Kind.CHAIN,
    "chains": Kind.CHAIN,
    "tags": Kind.TAGS,
    "lora": Kind.LORA,
    "loras": Kind.LORA,
}
_OLD_PREFIXES = {
    "rules_": Kind.CONSTRAINT,
    "expanders_": Kind.EXPANDER,
    "modifiers_": Kind.MODIFIER,
    "lora_": Kind.LORA,
    "tags_": Kind.TAGS,
}
_HEADER = re.compile(r"""\s{0,20}[#{]?\s{0,20}["']?type["']?\s{0,20}:\s{0,20}["']?([a-z]{1,20})""")


def kind_of_name(stem: str) -> tuple[Kind, str]:
    """Return what a file's name says, and the category that it belongs to.

    `hats.constraint`, `hats_constraint` and `rules_hats` are all constraints of `hats`.
    """
    for separator in (".", "_"):
        base, _, word = stem.rpartition(separator)
        if base and word.lower() in _WORDS:
            return _WORDS[word.lower()], base
    for prefix, kind in _OLD_PREFIXES.items():
        if stem.lower().startswith(prefix) and len(stem) > len(prefix):
            return kind, stem[len(prefix) :]
    return Kind.CATEGORY, stem


def kind_of_header(text: str) -> Kind:
    """Return what a `type:` in the first lines says; a category where there is none."""
    for line in text.split("\n", HEADER_LINES)[:HEADER_LINES]:
        match = _HEADER.match(line.lower())
        if match is not None and match.group(1) in _WORDS:
            return _WORDS[match.group(1)]
    return Kind.CATEGORY
