"""Patterns in names: `*` and `?` inside a part, `**` for any parts. Linear, without regular expressions."""

from __future__ import annotations

from collections.abc import Sequence

from .names import dashed

MAX_PATTERN = 500


def has_glob(text: str) -> bool:
    """Is this a pattern?"""
    return "*" in text or "?" in text


class Pattern:
    """A name with `*`, `?` or `**` in it.

    Args:
        parts: Between the slashes.
        crossing: `*` and `?` match slashes too.
    """

    def __init__(self, parts: Sequence[str], *, crossing: bool = False) -> None:
        self.text = "/".join(parts)
        self._parts = parts
        self._dashed = tuple(map(dashed, parts))
        self._crossing = crossing
        self._fixed = next((n for n, part in enumerate(parts) if has_glob(part)), len(parts))

    @property
    def folder(self) -> Sequence[str]:
        """The parts before the first with a glob in it."""
        return self._parts[: self._fixed]

    @property
    def last(self) -> str | None:
        """The last part, when there is no glob in it."""
        return None if has_glob(self._parts[-1]) else self._parts[-1]

    @property
    def levels(self) -> int | None:
        """How many levels below `folder` a name can be; None: any number."""
        if self._crossing or "**" in self._parts:
            return None
        return len(self._parts) - self._fixed

    def fits(self, name: Sequence[str]) -> bool:
        """Does a name fit?"""
        if self._crossing:
            return matches("/".join(self._dashed), dashed("/".join(name)))
        return matches_parts(self._dashed, tuple(map(dashed, name)))


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
