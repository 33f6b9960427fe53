"""Patterns in names: `*`, `?` and `[ab]` inside a part, `**` for any parts. Without regular expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .names import dashed

MAX_PATTERN = 500


class _Set(NamedTuple):
    """`[ab]`, `[a-c]` or `[!ab]`."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def has(self, character: str) -> bool:
        return any(low <= character <= high for low, high in self.ranges) != self.negated


Tokens = Sequence[str | _Set]


def has_glob(text: str) -> bool:
    """Is this a pattern for certain? Brackets may also be part of a file's name."""
    return "*" in text or "?" in text


def has_brackets(text: str) -> bool:
    """Can this be a pattern, as `[ab]` is?"""
    return "[" in text and "]" in text


class Pattern:
    """A name with `*`, `?`, `[ab]` or `**` in it. What brackets say literally fits too.

    Args:
        parts: Between the slashes.
        crossing: `*` and `?` match slashes too.
    """

    def __init__(self, parts: Sequence[str], *, crossing: bool = False) -> None:
        self.text = "/".join(parts)
        self.key = (self.text, crossing)
        self._parts = parts
        self._crossing = crossing
        varying = [number for number, part in enumerate(parts) if _varies(part)]
        self._fixed = varying[0] if varying else len(parts)
        end = varying[-1] + 1 if varying else len(parts)
        self._head = tuple(map(dashed, parts[: self._fixed]))
        self._tail = tuple(map(dashed, parts[end:]))
        spelled = ["/".join(parts)] if crossing else parts
        plain = tuple(map(dashed, spelled))
        self._readings: list[tuple[Tokens, ...]] = [plain]
        if has_brackets(self.text):
            self._readings.append(tuple(map(_with_sets, plain)))

    @property
    def folder(self) -> Sequence[str]:
        """The parts before the first with a glob in it."""
        return self._parts[: self._fixed]

    @property
    def last(self) -> str | None:
        """The last part, when there is no glob in it."""
        return None if _varies(self._parts[-1]) else self._parts[-1]

    @property
    def ending(self) -> tuple[str, ...]:
        """Up to two parts with which all names end that fit, with hyphens for spaces."""
        return self._tail[-2:]

    @property
    def levels(self) -> int | None:
        """How many levels below `folder` a name can be; None: any number."""
        if self._crossing or "**" in self._parts:
            return None
        return len(self._parts) - self._fixed

    def fits(self, name: Sequence[str]) -> bool:
        """Does a name fit?"""
        return self.fits_dashed(tuple(map(dashed, name)))

    def fits_dashed(self, name: tuple[str, ...]) -> bool:
        """Does a name fit, which has hyphens for spaces?"""
        start, end = self._fixed, len(name) - len(self._tail)
        if end < start or name[:start] != self._head or name[end:] != self._tail:
            return False  # what most names come to, of which there may be very many
        if self._crossing:
            whole = "/".join(name)
            return any(matches(reading[0], whole) for reading in self._readings)
        last = len(self._parts) - len(self._tail)
        rest = name[start:end]
        return any(matches_parts(reading[start:last], rest) for reading in self._readings)


def matches(pattern: Tokens, text: str) -> bool:
    """Does a part fit a pattern with `*` and `?`? Takes len(pattern) × len(text) steps at most."""
    if len(pattern) == 1 and pattern[0] == "*":
        return True
    p = t = 0
    star, star_text = -1, 0
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, star_text = p, t
            p += 1
        elif p < len(pattern) and _fits(pattern[p], text[t]):
            p += 1
            t += 1
        elif star >= 0:
            star_text += 1
            p, t = star + 1, star_text
        else:
            return False
    return all(token == "*" for token in pattern[p:])


def matches_parts(pattern: Sequence[Tokens], parts: Sequence[str]) -> bool:
    """Do the parts of a name fit a pattern, in which `**` stands for any number of parts?"""
    if not any(map(_is_any, pattern)):
        return len(pattern) == len(parts) and all(map(matches, pattern, parts))
    if all(map(_is_any, pattern)):
        return True
    fits = {0}  # how many parts of the pattern are used up
    for part in parts:
        fits = _past_stars(pattern, fits)
        following = set()
        for used in fits:
            if used < len(pattern) and _is_any(pattern[used]):
                following.add(used)
            elif used < len(pattern) and matches(pattern[used], part):
                following.add(used + 1)
        fits = following
    return len(pattern) in _past_stars(pattern, fits)


def _past_stars(pattern: Sequence[Tokens], fits: set[int]) -> set[int]:
    """Add what is reached when `**` stands for nothing."""
    reached = set(fits)
    for used in fits:
        while used < len(pattern) and _is_any(pattern[used]):
            used += 1
            reached.add(used)
    return reached


def _is_any(part: Tokens) -> bool:
    return len(part) == 2 and part[0] == part[1] == "*"


def _varies(part: str) -> bool:
    return has_glob(part) or has_brackets(part)


def _fits(token: str | _Set, character: str) -> bool:
    if isinstance(token, _Set):
        return token.has(character)
    return token in ("?", character)


def _with_sets(part: str) -> list[str | _Set]:
    """Return the tokens of a part, in which `[ab]` is one."""
    tokens: list[str | _Set] = []
    at = 0
    while at < len(part):
        first = at + 1 + (part[at + 1 : at + 2] == "!")
        close = part.find("]", first + 1) if part[at] == "[" else -1
        if close < 0:
            tokens.append(part[at])
            at += 1
        else:
            tokens.append(_Set(_ranges(part[first:close]), first > at + 1))
            at = close + 1
    return tokens


def _ranges(text: str) -> tuple[tuple[str, str], ...]:
    ranges = []
    at = 0
    while at < len(text):
        is_range = text[at + 1 : at + 2] == "-" and at + 2 < len(text)
        ranges.append((text[at], text[at + 2 * is_range]))
        at += 1 + 2 * is_range
    return tuple(ranges)
