"""Names of wildcards: one spelling for every platform, and none that leads out of a folder."""

from __future__ import annotations

import unicodedata

_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}


def normal(text: str) -> str:
    """Return a name as it is compared: without regard to case and to how accents are encoded."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", text).casefold()


def dashed(name: str) -> str:
    """Return a name, ready to be compared, with hyphens for spaces: some engines know files only so."""
    return name.replace(" ", "-")


def as_key(text: str) -> str:
    """Return a key, or several with `/` between them, as it is compared with keys of files.

    `Hair Color` is also hair-color; a key may itself have `/` or `.` in it, where a path has them between keys.
    """
    return dashed(normal(text)).replace(".", "/")


def parts_of(name: str) -> tuple[str, ...] | None:
    r"""Return the parts of `a/b` or `a\b`, ready to be compared; None when it is no name of ours.

    No name of ours: absolute paths, drives, `..`, control characters, Windows' devices and streams.
    """
    path = name.replace("\\", "/")
    if path.startswith("/") or ":" in path or any(ord(character) < 32 for character in path):
        return None
    parts = tuple(normal(part.strip()) for part in path.split("/") if part.strip())
    return parts if parts and all(map(_is_harmless, parts)) else None


def _is_harmless(part: str) -> bool:
    # Windows ignores dots and spaces at the end: ".. ." would be "..".
    bare = part.rstrip(". ")
    return bool(bare) and bare.partition(".")[0] not in _RESERVED
