"""Prompts for one expression of a character, one pose, or a whole sheet, as families of models like them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from ..errors import InputError


class Subject(str, Enum):
    """What is to be drawn."""

    EXPRESSION = "expression"
    POSE = "pose"
    SHEET = "sheet"


class Family(str, Enum):
    """How a prompt is written: tags, sentences, or phrases."""

    ILLUSTRIOUS = "illustrious"
    FLUX = "flux"
    SDXL = "sdxl"


@dataclass(frozen=True, slots=True)
class Portrait:
    """What a prompt is about.

    Attributes:
        character: What the character looks like.
        expression: A face, a pose, or for a sheet what all its cells have in common.
        name: The character's; may be empty.
        additional: What else the prompt says.
        grid: For a sheet: (columns, rows).
    """

    character: str
    expression: str = "neutral"
    name: str = ""
    additional: str = ""
    grid: tuple[int, int] = (4, 4)


_TEMPLATES = {
    (
        Family.ILLUSTRIOUS,
        Subject.EXPRESSION,
    ): "solo, {character}, {expression}, {expression} expression, portrait, "
    "upper body, looking at viewer, simple background",
    (
        Family.ILLUSTRIOUS,
        Subject.POSE,
    ): "solo, {character}, {expression}, full body, simple background",
    (
        Family.ILLUSTRIOUS,
        Subject.SHEET,
    ): "{character}, expression sheet, multiple views, {grid} grid, {expression}, "
    "portrait, simple background",
    (
        Family.FLUX,
        Subject.EXPRESSION,
    ): "A portrait of {character}. The face shows {expression}. Upper body, eyes on "
    "the viewer, plain background.",
    (
        Family.FLUX,
        Subject.POSE,
    ): "A full-body picture of {character}, {expression}, in front of a plain background.",
    (
        Family.FLUX,
        Subject.SHEET,
    ): "A sheet of {grid} equal cells, each a portrait of {character} with another facial "
    "expression: {expression}. The same person and clothes in every cell, plain background.",
    (
        Family.SDXL,
        Subject.EXPRESSION,
    ): "portrait of {character}, {expression} facial expression, upper body, looking "
    "at the viewer, plain background",
    (
        Family.SDXL,
        Subject.POSE,
    ): "full-body picture of {character}, {expression} pose, plain background",
    (
        Family.SDXL,
        Subject.SHEET,
    ): "character expression sheet of {character}, {grid} grid, {expression}, the same "
    "character in every cell, plain background",
}
NEGATIVE = {
    Subject.EXPRESSION: "multiple people, cropped face, blurry, text, watermark",
    Subject.POSE: "multiple people, cropped, extra limbs, blurry, text, watermark",
    Subject.SHEET: "different characters, uneven cells, blurry, text, watermark",
}
_GRID = re.compile(r"\s*(\d{1,2})\s*[x×]\s*(\d{1,2})\s*", re.IGNORECASE)
MAX_CELLS = 10


def prompt_for(portrait: Portrait, family: Family, subject: Subject) -> str:
    """Return the prompt.

    Raises:
        InputError: The character is not described.
    """
    character = _plain(portrait.character)
    if not character:
        raise InputError("The character is not described.", "Write what it looks like.")
    expression = _plain(portrait.expression) or "neutral"
    columns, rows = portrait.grid
    # One pass: braces in what people write are theirs.
    filled = {"character": character, "expression": expression, "grid": f"{columns}x{rows}"}
    template = _TEMPLATES[family, subject]
    prompt = re.sub(r"\{(\w+)\}", lambda match: filled[match.group(1)], template)
    added = _plain(portrait.additional)
    if not added:
        return prompt
    return f"{prompt} {added}" if family is Family.FLUX else f"{prompt}, {added}"


def negative_for(subject: Subject, additional: str) -> str:
    """Return the negative prompt, with what is added to it."""
    added = _plain(additional)
    return f"{NEGATIVE[subject]}, {added}" if added else NEGATIVE[subject]


def read_grid(text: str) -> tuple[int, int]:
    """Read `4x4`: columns and rows.

    Raises:
        InputError: It is no such text.
    """
    match = _GRID.fullmatch(text)
    sides = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not all(1 <= side <= MAX_CELLS for side in sides):
        raise InputError(
            f"'{text}' is no grid.", f"Write columns x rows, such as 4x4; at most {MAX_CELLS} each."
        )
    return sides


def file_name(*parts: str) -> str:
    """Return a name for a file: lower case, without blanks and what file systems refuse."""
    joined = "_".join(part.strip() for part in parts if part.strip()).lower()
    plain = re.sub(r"\s+", "_", joined)
    plain = re.sub(r'[\x00-\x1f<>:"/\\|?*%]+', "_", plain).strip(". ")[:100]
    return f"_{plain}" if plain.partition(".")[0] in _RESERVED else plain or "picture"


# Names that Windows keeps for devices.
_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10)),
}


def _plain(text: str) -> str:
    return text.strip().strip(",").strip()
