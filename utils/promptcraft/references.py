"""Names of categories and chains in a text: `{hats}`, `{hats:straw.wide}` and `__hats__`.

They are replaced by marks, so that the wildcard engine can expand the rest around them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .content import Content, Reference

# Bounded, without brackets inside, and not where they are arguments of the wildcard engine's own forms.
_BRACES = r"(?<![\\$%])\{([^{}|$\\\n]{1,200})\}"
_UNDERSCORES = r"(?<![\\$#_])__((?:(?!__)[^{}|$\\\n<>*]){1,200}?)__(?!_)"
# Files of LoRAs may be called `a__b__c`, so in a tag only braces count.
_TAG = r"(<[A-Za-z]{1,20}:[^<>\n]{0,400}>)"
_REFERENCE = re.compile(f"{_BRACES}|{_UNDERSCORES}|{_TAG}")
_IN_TAG = re.compile(_BRACES)
# Of Unicode's private use area: no text that is meant for anybody has them.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_MARK = re.compile(f"{_OPEN}([0-9]{{1,6}}){_CLOSE}")


def with_marks(text: str, content: Content) -> tuple[str, list[Reference]]:
    """Return the text with marks, and what they stand for. Unknown names stay."""
    found: list[Reference] = []

    def mark(match: re.Match[str]) -> str:
        written = next((group for group in match.groups() if group), "")
        if written == match.group():
            return _IN_TAG.sub(mark, written)
        reference = content.reference(written)
        if reference is None:
            return match.group()
        found.append(reference)
        return f"{_OPEN}{len(found) - 1}{_CLOSE}"

    if "{" not in text and "__" not in text:
        return text, found
    plain = text.replace(_OPEN, "").replace(_CLOSE, "")
    return _REFERENCE.sub(mark, plain), found


def without_marks(text: str, found: list[Reference], fill: Callable[[Reference], str]) -> str:
    """Return the text with something for each mark, from left to right."""
    return _MARK.sub(lambda match: fill(found[int(match.group(1))]), text)


def marks_in(text: str, found: list[Reference]) -> list[Reference]:
    """Return what the marks of a text stand for."""
    return [found[int(match.group(1))] for match in _MARK.finditer(text)]
