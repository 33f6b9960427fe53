"""A size that a model can draw well: its longest side, its area, or the sizes that it was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ..errors import InputError

CUSTOM = "Custom"
_GENERATED_STEP = 64  # pixels between the sizes of a list that nobody has published
_LONGEST_TO_SHORTEST = 4


class Size(NamedTuple):
    """In pixels."""

    width: int
    height: int


class ScaleMode(str, Enum):
    """What decides about the new size."""

    FIT = "fit"
    AREA = "keep area"
    BUCKET = "bucket"


@dataclass(frozen=True, slots=True)
class TrainedSize:
    """What a family of models was trained on.

    Attributes:
        side: Pixels of its square.
        landscape: Its published sizes that are not upright; empty: made from the square's area.
    """

    side: int
    landscape: tuple[Size, ...] = ()


# SDXL: appendix I of "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis".
_SDXL = tuple(
    Size(width, height)
    for height, widths in {
        1024: (1024,),
        960: (1024, 1088),
        896: (1088, 1152),
        832: (1152, 1216),
        768: (1280, 1344),
        704: (1344, 1408, 1472),
        640: (1536, 1600),
        576: (1664, 1728, 1792),
        512: (1856, 1920, 1984, 2048),
    }.items()
    for width in widths
)
# Qwen-Image: the table of aspect ratios in its model card.
_QWEN = (Size(1328, 1328), Size(1664, 928), Size(1472, 1104), Size(1584, 1056))
# Wan 2.1/2.2: the sizes that its own scripts accept for 480p and 720p.
_WAN = (Size(832, 480), Size(1280, 720))

TRAINED_SIZES = {
    "SD 1.5": TrainedSize(512),
    "SD 2.1": TrainedSize(768),
    "SDXL": TrainedSize(1024, _SDXL),
    "SD 3.5": TrainedSize(1024),
    "Flux": TrainedSize(1024),
    "Illustrious": TrainedSize(1024, _SDXL),
    "Pony": TrainedSize(1024, _SDXL),
    "Cascade": TrainedSize(1024),
    "NoobAI": TrainedSize(1024, _SDXL),
    "Flux.2": TrainedSize(1024),
    "Chroma": TrainedSize(1024),
    "HiDream": TrainedSize(1024),
    "Lumina 2": TrainedSize(1024),
    "Z-Image": TrainedSize(1024),
    "Qwen-Image": TrainedSize(1328, _QWEN),
    "Wan": TrainedSize(960, _WAN),
}
MODEL_TYPES = (*TRAINED_SIZES, CUSTOM)


def scale(size: Size, trained: TrainedSize, mode: ScaleMode, multiple: int) -> Size:
    """Return the size to draw at.

    Args:
        size: The wanted one.
        trained: What the model knows.
        mode: FIT only makes smaller, AREA makes smaller and larger, BUCKET takes a size of the list.
        multiple: Of FIT and AREA; both sides are multiples of it. A bucket stays as it is.
    """
    if min(size) < 1 or multiple < 1:
        raise InputError(
            f"A size of {size.width} × {size.height} in steps of {multiple} cannot be.",
            "All three have to be at least 1.",
        )
    if mode is ScaleMode.BUCKET:
        return _nearest(size, buckets(trained))
    if mode is ScaleMode.FIT:
        factor = min(1.0, trained.side / max(size))
    else:
        factor = trained.side / math.sqrt(size.width * size.height)
    return Size(_rounded(size.width * factor, multiple), _rounded(size.height * factor, multiple))


def buckets(trained: TrainedSize) -> tuple[Size, ...]:
    """Return the sizes of a list, upright ones too."""
    landscape = trained.landscape or _generated(trained.side)
    both = (*landscape, *(Size(size.height, size.width) for size in landscape))
    return tuple(dict.fromkeys(both))


def trained_size(model_type: str, custom_side: int) -> TrainedSize:
    """Return what a type of models was trained on.

    Raises:
        InputError: There is no such type.
    """
    if model_type == CUSTOM:
        return TrainedSize(custom_side)
    if model_type not in TRAINED_SIZES:
        raise InputError(
            f"There is no model type '{model_type}'.", f"Choose one of {', '.join(MODEL_TYPES)}."
        )
    return TRAINED_SIZES[model_type]


def _generated(side: int) -> tuple[Size, ...]:
    """Return sizes of at most the square's area, of which the height is as large as fits."""
    area, found = side * side, []
    step = min(_GENERATED_STEP, side)
    for width in range(side // step * step, _LONGEST_TO_SHORTEST * side, step):
        height = min(area // width // step * step, width)
        if height and width <= _LONGEST_TO_SHORTEST * height:
            found.append(Size(width, height))
    return tuple(found)


def _nearest(size: Size, choices: tuple[Size, ...]) -> Size:
    def distance(choice: Size) -> tuple[float, int]:
        ratio = choice.width * size.height / (choice.height * size.width)
        # Of two with one shape, the one of the nearer area.
        area = abs(choice.width * choice.height - size.width * size.height)
        return round(abs(math.log(ratio)), 9), area

    return min(choices, key=distance)


def _rounded(value: float, multiple: int) -> int:
    return max(multiple, math.floor(value / multiple + 0.5) * multiple)
