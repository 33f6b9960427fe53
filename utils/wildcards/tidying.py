"""What an empty pick leaves behind: double spaces and commas. Tags in angle brackets stay as they are."""

from __future__ import annotations

import re

_MESSY = re.compile(r"[ \t]{2}|\t|[ \t],|,[ \t]*,|[ \t]\n|\n[ \t]|^[\s,]|\s$")
_PIECES = re.compile(r"(<[^<>\n]{0,1000}>)")
_SPACES = re.compile(r"[ \t]+")
_COMMAS = re.compile(r" ?(?:,[ ]?)+")


def tidy(text: str) -> str:
    """Return the text with single spaces and commas, and no space at its ends."""
    if _MESSY.search(text) is None:
        return text
    pieces = _PIECES.split(text)
    pieces[::2] = map(_tidy_piece, pieces[::2])
    return "\n".join(line.strip(" ") for line in "".join(pieces).split("\n")).strip().lstrip(", ")


def _tidy_piece(piece: str) -> str:
    return _COMMAS.sub(_one_comma, _SPACES.sub(" ", piece))


def _one_comma(match: re.Match[str]) -> str:
    return ", " if match.group().endswith(" ") or match.group().count(",") > 1 else ","
