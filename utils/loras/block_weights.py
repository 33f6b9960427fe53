"""Block weights: how strongly a LoRA works in each block of a diffusion model.

They are written as a vector, a preset's name, or blocks with weights (`IN04:0.5`), as the block weight
extension of A1111 and Inspire's nodes have them. A vector's length says which blocks it names:

| model | length | blocks |
|---|---|---|
| SD1.5 | 17 | BASE, IN01 02 04 05 07 08, MID, OUT03 … OUT11: those with attention |
| SD1.5 | 26 | BASE, IN00 … IN11, MID, OUT00 … OUT11 |
| SDXL | 12 | BASE, IN04 05 07 08, MID, OUT00 … OUT05 |
| SDXL | 20 | BASE, IN00 … IN08, MID, OUT00 … OUT08 |
| Flux | 58 | BASE, D00 … D18, S00 … S37 |

A block that a vector does not name works as its nearest named neighbour of the same part does. BASE is
everything outside the blocks: text encoders, time and label embeddings, the output.

In a vector A and B stand for what is written behind it, a and b for half of that. Presets may carry the model's
name in front, as Inspire's do: SD-MIDD, SDXL-INALL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import InputError

BASE, MID = "BASE", "MID"
_LETTERS = ("A", "B")
_UNET_KEY = re.compile(r"^(?:.*\.)?(input_blocks|middle_block|output_blocks)\.(\d+)\.")
_FLUX_KEY = re.compile(r"^(?:.*\.)?(double_blocks|single_blocks)\.(\d+)\.")
_PART_OF = {
    "input_blocks": "IN",
    "output_blocks": "OUT",
    "double_blocks": "D",
    "single_blocks": "S",
}


def _numbered(part: str, numbers: Iterable[int]) -> list[str]:
    return [f"{part}{number:02}" for number in numbers]


@dataclass(frozen=True)
class Layout:
    """The blocks of a model family.

    Attributes:
        name: Of the family.
        blocks: All of them, in order; the first is BASE.
        short: Those that a short vector names; the same where there is none.
        shallow: Of the blocks on the way in, those near the picture; the rest is deep.
        late: Of the blocks on the way out, those near the picture.
    """

    name: str
    blocks: tuple[str, ...]
    short: tuple[str, ...]
    shallow: tuple[str, ...]
    late: tuple[str, ...]

    @property
    def way_in(self) -> tuple[str, ...]:
        """The blocks before the middle."""
        return tuple(block for block in self.blocks if block.startswith(("IN", "D")))

    @property
    def way_out(self) -> tuple[str, ...]:
        """The blocks after the middle."""
        return tuple(block for block in self.blocks if block.startswith(("OUT", "S")))


def _unet(name: str, count: int, short: list[str], shallow: int, late: int) -> Layout:
    ins, outs = _numbered("IN", range(count)), _numbered("OUT", range(count))
    return Layout(
        name,
        (BASE, *ins, MID, *outs),
        (BASE, *short),
        tuple(ins[:shallow]),
        tuple(outs[late:]),
    )


_SD15_SHORT = [*_numbered("IN", (1, 2, 4, 5, 7, 8)), MID, *_numbered("OUT", range(3, 12))]
_SDXL_SHORT = [*_numbered("IN", (4, 5, 7, 8)), MID, *_numbered("OUT", range(6))]
_DOUBLE, _SINGLE = _numbered("D", range(19)), _numbered("S", range(38))
SD15 = _unet("SD1.5", 12, _SD15_SHORT, 5, 7)
SDXL = _unet("SDXL", 9, _SDXL_SHORT, 6, 3)
FLUX = Layout(
    "Flux",
    (BASE, *_DOUBLE, *_SINGLE),
    (BASE, *_DOUBLE, *_SINGLE),
    tuple(_DOUBLE[:10]),
    tuple(_SINGLE[19:]),
)
LAYOUTS = (SD15, SDXL, FLUX)
PRESETS = (
    *("NONE", "ALL", "ALL0.5", "INS", "IND", "INALL", "MIDD", "OUTD", "OUTS", "OUTALL"),
    *("MIDALL", "NOTE", "NOIN", "NOMID", "NOOUT", "MOUT", "MIDD0.2", "MIDD0.8"),
)
_PRESET_PREFIX = re.compile(r"^(?:SD|SDXL|XL|FLUX)-")
_MORE_OF_SD15 = {
    "MOUT": (1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0, 0),
    "MIDD0.2": (1, 0, 0, 0, 0, 0, 0.2, 0.4, 0.4, 0.2, 0, 0, 0, 0, 0, 0, 0),
    "MIDD0.8": (1, 0, 0, 0, 0, 0.5, 0.8, 0.8, 0.4, 0, 0, 0, 0, 0, 0, 0, 0),
}


def layout_of(keys: Iterable[str]) -> Layout | None:
    """Return the layout of a model by the names of its weights; None where its blocks have no names here."""
    highest: dict[str, int] = {}
    for key in keys:
        match = _UNET_KEY.match(key) or _FLUX_KEY.match(key)
        if match:
            part, number = match.group(1), int(match.group(2))
            highest[part] = max(number, highest.get(part, 0))
    if "double_blocks" in highest and "single_blocks" in highest:
        return FLUX
    if "input_blocks" not in highest:
        return None
    return SDXL if highest["input_blocks"] < len(SDXL.way_in) else SD15


def block_of(key: str) -> str:
    """Return the block that a weight belongs to, by its name in ComfyUI's models."""
    match = _UNET_KEY.match(key) or _FLUX_KEY.match(key)
    if match is None:
        return BASE
    part, number = match.groups()
    return MID if part == "middle_block" else f"{_PART_OF[part]}{int(number):02}"


def read_block_weights(text: str, layout: Layout) -> dict[str, float]:
    """Return the weight of every block.

    Args:
        text: A vector, a preset, or `block:weight` separated by commas; behind it, separated by `;`, what
            the letters A and B stand for.
        layout: Of the model.

    Raises:
        InputError: It cannot be read, or does not fit the model.
    """
    spec, letters = _split(text)
    values = [value.strip() for value in spec.split(",") if value.strip()]
    if not values:
        raise InputError(f"The block weights '{text}' are empty.", _hint(layout))
    preset = _PRESET_PREFIX.sub("", values[0].upper())
    if len(values) == 1 and preset in PRESETS:
        return _preset(preset, layout)
    if ":" in spec or "=" in spec:
        return _listed(values, letters, layout, text)
    numbers = [_number(value, letters, text) for value in values]
    for names in (layout.short, layout.blocks):
        if len(numbers) == len(names):
            return _spread(dict(zip(names, numbers, strict=True)), layout)
    raise InputError(
        f"The block weights '{text}' are {len(numbers)} values, which does not fit {layout.name}.",
        _hint(layout),
    )


def _split(text: str) -> tuple[str, dict[str, str]]:
    spec, letters = "", {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, is_named, value = (piece.strip() for piece in part.partition("="))
        if is_named and key.upper() in _LETTERS:
            letters[key.upper()] = value
        elif not spec:
            spec = part
        else:
            raise InputError(f"The block weights '{text}' hold something else: '{part}'.")
    return spec, letters


def _preset(name: str, layout: Layout) -> dict[str, float]:
    if name == "ALL0.5":
        return dict.fromkeys(layout.blocks, 0.5)
    if name in _MORE_OF_SD15:
        if layout is not SD15:
            raise InputError(
                f"The block weights '{name}' are for SD1.5, and this model is {layout.name}.",
                _hint(layout),
            )
        return _spread(dict(zip(layout.short, _MORE_OF_SD15[name], strict=True)), layout)
    return {block: float(block in _chosen(name, layout)) for block in layout.blocks}


def _chosen(name: str, layout: Layout) -> set[str]:
    """Return the blocks in which a preset lets a LoRA work."""
    everything, ins, outs = set(layout.blocks), set(layout.way_in), set(layout.way_out)
    shallow, late = set(layout.shallow), set(layout.late)
    return {
        "NONE": set(),
        "ALL": everything,
        "INS": {BASE} | shallow,
        "IND": {BASE} | (ins - shallow),
        "INALL": {BASE} | ins,
        "MIDD": (everything - shallow) - late,
        "MIDALL": {BASE, MID},
        "OUTD": {BASE} | (outs - late),
        "OUTS": {BASE} | late,
        "OUTALL": {BASE} | outs,
        "NOTE": everything - {BASE},
        "NOIN": everything - ins,
        "NOMID": everything - {MID},
        "NOOUT": everything - outs,
    }[name]


def _listed(
    values: list[str], letters: Mapping[str, str], layout: Layout, text: str
) -> dict[str, float]:
    weights = dict.fromkeys(layout.blocks, 1.0)
    for value in values:
        block, _, weight = re.sub(r"\s*[:=]\s*", ":", value).partition(":")
        if block.upper() not in weights:
            raise InputError(
                f"The block weights '{text}' name a block '{block}' that {layout.name} does not have.",
                f"Its blocks are {', '.join(layout.blocks)}.",
            )
        weights[block.upper()] = _number(weight, letters, text)
    return weights


def _number(value: str, letters: Mapping[str, str], text: str) -> float:
    written = letters.get(value.upper(), value)
    try:
        number = float(written)
    except ValueError:
        number = float("nan")
    if value in (letter.lower() for letter in letters):
        number /= 2
    if not abs(number) < float("inf"):
        raise InputError(
            f"The block weights '{text}' cannot be read: '{value}' is no number.",
            "Write numbers, or A and B with what they stand for behind a semicolon: 1,A,0;A=0.5. "
            f"Presets are {', '.join(PRESETS)}.",
        )
    return number


def _spread(named: Mapping[str, float], layout: Layout) -> dict[str, float]:
    """Give blocks that are not named what their nearest neighbour of the same part has."""
    weights = {}
    for block in layout.blocks:
        if block in named:
            weights[block] = named[block]
            continue
        part, number = block[:-2], int(block[-2:])
        rivals = [other for other in named if other[:-2] == part and other[-2:].isdigit()]
        nearest = min(rivals, key=lambda other: (abs(int(other[-2:]) - number), other))
        weights[block] = named[nearest]
    return weights


def _hint(layout: Layout) -> str:
    lengths = sorted({len(layout.short), len(layout.blocks)})
    return (
        f"{layout.name} takes {' or '.join(map(str, lengths))} values, or a preset: "
        f"{', '.join(PRESETS)}."
    )
