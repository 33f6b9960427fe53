"""Patterns in names: `*` and `?` inside a part, `**` for any parts. Linear, without regular expressions."""

from __future__ import annotations

from collections.abc import Sequence

MAX_PATTERN = 500


def has_glob(text: str) -> bool:
    """Is this a pattern?"""
    return "*" in text or "?" in text


def matches(pattern: str, text: str) -> bool:
    """Does a part fit a pattern with `*` and `?`? Takes len(pattern) × len(text) steps at most."""
    p = t = 0
    star, star_text = -1, 0
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, star_text = p, t
            p += 1
        elif p < len(pattern) and pattern[p] in ("?", text[t]):
            p += 1
            t += 1
        elif star >= 0:
            star_text += 1
            p, t = star + 1, star_text
        else:
            return False
    return not pattern[p:].strip("*")


def matches_parts(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Do the parts of a name fit a pattern, in which `**` stands for any number of parts?"""
    fits = {0}  # how many parts of the pattern are used up
    for part in parts:
        fits = _past_stars(pattern, fits)
        following = set()
        for used in fits:
            if used < len(pattern) and pattern[used] == "**":
                following.add(used)
            elif used < len(pattern) and matches(pattern[used], part):
                following.add(used + 1)
        fits = following
    return len(pattern) in _past_stars(pattern, fits)


def _past_stars(pattern: Sequence[str], fits: set[int]) -> set[int]:
    """Add what is reached when `**` stands for nothing."""
    reached = set(fits)
    for used in fits:
        while used < len(pattern) and pattern[used] == "**":
            used += 1
            reached.add(used)
    return reached
