"""What an expression computes with, and how large it may become."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import BadValueError

INPUTS = ("a", "b", "c", "d", "e", "f")  # of the nodes; each is a value if something is connected
MAX_BITS = 4096  # of a whole number
MAX_TEXT = 100_000  # characters
MAX_ITEMS = 10_000  # of a list


@dataclass(frozen=True, slots=True)
class Sizes:
    """The dimensions of a picture, a mask or a latent.

    Attributes:
        width: In pixels; of a latent in its own cells.
        height: As the width.
        batch: How many there are.
        channels: Of each; 1 for a mask.
        shape: As the tensor has it.
    """

    width: int
    height: int
    batch: int
    channels: int
    shape: tuple[int, ...]

    @property
    def ratio(self) -> float:
        """Width by height."""
        return self.width / self.height


SIZE_NAMES = ("width", "height", "batch", "channels", "shape", "ratio")

Value = object  # bool, int, float, str, None, Sizes, or a tuple of these


def sizes_of(shape: Sequence[int], *, channels_first: bool) -> Sizes:
    """Return the sizes of a tensor.

    Args:
        shape: (batch, height, width, channels), (batch, height, width), (height, width), or for latents
            (batch, channels, …, height, width).
        channels_first: It is a latent.

    Raises:
        BadValueError: It has no such form.
    """
    whole = tuple(int(side) for side in shape)
    if channels_first and len(whole) >= 4:
        return Sizes(whole[-1], whole[-2], whole[0], whole[1], whole)
    if not channels_first and len(whole) == 4:
        return Sizes(whole[2], whole[1], whole[0], whole[3], whole)
    if not channels_first and len(whole) in (2, 3):
        return Sizes(whole[-1], whole[-2], whole[0] if len(whole) == 3 else 1, 1, whole)
    raise BadValueError(f"a tensor of the shape {whole} has no width and height")


def checked(value: Value) -> Value:
    """Return a value that is neither too large nor no number.

    Raises:
        BadValueError: It is.
    """
    if isinstance(value, bool) or value is None or isinstance(value, Sizes):
        return value
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise BadValueError("the number has more than 1200 digits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadValueError("the result is no finite number")
    elif isinstance(value, str):
        check_length(len(value))
    elif isinstance(value, tuple):
        if len(value) > MAX_ITEMS:
            raise BadValueError(f"a list may have at most {MAX_ITEMS} items")
        # Lists of lists could be compared for ages.
        if any(isinstance(item, tuple) for item in value):
            raise BadValueError("a list cannot hold lists")
    else:
        raise BadValueError(f"{kind_of(value)} is nothing to compute with")
    return value


def check_length(length: int) -> None:
    """Refuse a text before it is made.

    Raises:
        BadValueError: It would be too long.
    """
    if length > MAX_TEXT:
        raise BadValueError(f"the text would have {length} characters; at most {MAX_TEXT} may be")


def kind_of(value: object) -> str:
    """Return what a value is, in words."""
    names = {
        bool: "a truth value",
        int: "a whole number",
        float: "a number",
        str: "a text",
        tuple: "a list",
        Sizes: "a picture's sizes",
        type(None): "nothing",
    }
    return names.get(type(value), f"a value of the kind {type(value).__name__}")


def number(value: object) -> int | float:
    """Return a number; truth values are 0 and 1.

    Raises:
        BadValueError: It is none.
    """
    if isinstance(value, (int, float)):
        return value
    hint = " Write int(…) or float(…) around a text." if isinstance(value, str) else ""
    raise BadValueError(f"{kind_of(value)} is no number", hint.strip())


def whole(value: object) -> int:
    """Return a whole number.

    Raises:
        BadValueError: It is none.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return int(value)
    raise BadValueError(f"{kind_of(value)} is no whole number", "Write round(…) around it.")


def text(value: object) -> str:
    """Return a text.

    Raises:
        BadValueError: It is none.
    """
    if isinstance(value, str):
        return value
    raise BadValueError(f"{kind_of(value)} is no text", "Write str(…) around it.")


def shown(value: object) -> str:
    """Return a value as a text, as people write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, Sizes):
        return f"{value.width}x{value.height}"
    if isinstance(value, tuple):
        pieces = []
        length = 0
        for item in value:
            pieces.append(shown(item))
            length += len(pieces[-1]) + 2
            check_length(length)
        return ", ".join(pieces)
    return str(value)
