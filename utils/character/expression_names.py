"""Names of facial expressions and of poses."""

from __future__ import annotations

from enum import Enum

from ..errors import InputError

# What SillyTavern's classifier calls them, and one more that its users draw.
SILLYTAVERN = (
    "admiration",
    "amusement",
    "anger",
    "annoyance",
    "approval",
    "caring",
    "confusion",
    "curiosity",
    "desire",
    "disappointment",
    "disapproval",
    "disgust",
    "embarrassment",
    "excitement",
    "fear",
    "gratitude",
    "grief",
    "joy",
    "love",
    "nervousness",
    "neutral",
    "optimism",
    "pride",
    "realization",
    "relief",
    "remorse",
    "sadness",
    "surprise",
    "wonder",
)
EXTENDED = (
    *SILLYTAVERN,
    "shy",
    "smug",
    "crying",
    "winking",
    "laughing",
    "sleepy",
    "bored",
    "determined",
    "serious",
    "pouting",
    "flirty",
    "blushing",
    "scared",
    "shocked",
    "thinking",
    "tired",
    "worried",
    "mischievous",
)
POSES = (
    "standing",
    "walking",
    "running",
    "sitting",
    "kneeling",
    "crouching",
    "lying down",
    "jumping",
    "leaning against a wall",
    "arms crossed",
    "hands on hips",
    "hands behind back",
    "waving",
    "pointing",
    "reaching out",
    "looking back",
    "stretching",
    "dancing",
    "fighting stance",
    "bowing",
)


class Preset(str, Enum):
    """A list of names."""

    SILLYTAVERN = "sillytavern"
    EXTENDED = "extended"
    POSES = "poses"
    CUSTOM = "custom"


_LISTS = {Preset.SILLYTAVERN: SILLYTAVERN, Preset.EXTENDED: EXTENDED, Preset.POSES: POSES}


def names_of(preset: Preset, custom: str = "") -> tuple[str, ...]:
    """Return a list's names.

    Args:
        preset: Which.
        custom: For `custom`: one a line.

    Raises:
        InputError: The custom list has no names.
    """
    if preset is not Preset.CUSTOM:
        return _LISTS[preset]
    names = tuple(name.strip() for name in custom.split("\n") if name.strip())
    if not names:
        raise InputError("The custom list is empty.", "Write one name a line, or choose a preset.")
    return names
