"""Takes pieces out of a prompt and closes the gaps.

Only the commas and blanks that belong to a piece go with it. Everything else stays as it was written:
emphasis, wildcards, escapes, BREAK, newlines, and what is odd elsewhere in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLANKS = " \t"
_OPENING = ("(", "[", "{", "|")
_END = re.compile(r"[)\]}|]|:\s*[+-]?[\d.]+\s*\)")
# What is left of brackets when all that they held is gone: "()", "[]", "(:1.2)".
_EMPTY = re.compile(r"\(\s*(?::\s*[+-]?[\d.]+\s*)?\)|\[\s*\]")


def without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text without these pieces, which are in order and apart."""
    left, place = "", 0
    for start, end in spans:
        left += text[place:start]
        left, right = _close(left, text[end:])
        place = len(text) - len(right)
    return left + text[place:]


def _close(left: str, right: str) -> tuple[str, str]:
    """Join what is left and right of a removed piece; what is dropped is at their ends."""
    while True:
        left, right = _join(left, right)
        inner = _EMPTY.match(left[-1:] + right) if left[-1:] in ("(", "[") else None
        if inner is None or _is_escaped(left):
            return left, right
        left, right = left[:-1], right[inner.end() - 1 :]


def _join(left: str, right: str) -> tuple[str, str]:
    """Return both sides; of the right one nothing but its begin is dropped, the gap is on the left."""
    bare_left, bare_right = left.rstrip(_BLANKS), right.lstrip(_BLANKS)
    gap = " " if bare_left != left or bare_right != right else ""
    if _is_start(bare_left):
        return bare_left, _after_comma(bare_right)
    if bare_left.endswith(","):
        if not bare_right.strip() or _is_end(bare_right):
            return bare_left.rstrip(f"{_BLANKS},"), bare_right
        bare_right = _after_comma(bare_right)
    elif bare_left[-1].isalnum() and bare_right[:1].isalnum():
        gap = " "
    if not bare_right or bare_right.startswith((",", ":", "\n", "\r")) or _is_end(bare_right):
        gap = ""
    return bare_left + gap, bare_right


def _is_start(left: str) -> bool:
    """Is this the begin of the prompt, of a line, of brackets or of an alternative?"""
    return (
        not left
        or left.endswith(("\n", "\r"))
        or (left.endswith(_OPENING) and not _is_escaped(left))
    )


def _is_end(right: str) -> bool:
    """Is this the end of brackets, with or without a weight, or of an alternative?"""
    return bool(_END.match(right))


def _is_escaped(left: str) -> bool:
    """Is the last character written with a backslash before it?"""
    body = left[:-1]
    return (len(body) - len(body.rstrip("\\"))) % 2 == 1


def _after_comma(right: str) -> str:
    return right[1:].lstrip(_BLANKS) if right.startswith(",") else right
