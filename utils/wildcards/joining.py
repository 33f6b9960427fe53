"""Several picks → one text. What is between them depends on whether an empty pick counts as one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Joining(Enum):
    """Where a separator stands."""

    FILLED = "between picks that are not empty"
    EDGES = "between all picks, but not at the beginning or end"
    ALL = "between all picks"


def join(texts: Sequence[str], separator: str, joining: Joining) -> str:
    """Return picks with a separator between them."""
    if len(texts) == 1:  # its own separators stay
        return texts[0]
    if joining is Joining.FILLED:
        texts = [text for text in texts if text]
    return trimmed(separator.join(texts), separator, joining)


def trimmed(text: str, separator: str, joining: Joining) -> str:
    """Return joined picks without what stands at their edges."""
    if joining is Joining.EDGES and separator:
        text = text.removeprefix(separator).removesuffix(separator)
    return text
