"""LoRAs that are written into a prompt: `<lora:name:weight>` and its relatives.

What is understood:

* `<lora:name>`, `<lora:name:w>`, `<lora:name:w:wc>`: weight for the model, and for the text encoders; older
  prompts of A1111 have `<lyco:…>` for LoRAs of other kinds;
* `<lora:name:w:wc:LBW=1,0,0.5,…;A=0.5;B=0;>`: block weights as Impact's and Inspire's packs write them, also
  with a label in front, `LBW=B11:1,0,…`, which says nothing;
* `<lora:name:w:lbw=IN04:0.5,MID:0>`: single blocks;
* `<lora:name:w:lbw=MIDD>`, and `unet=`, `te=` for the two weights, as A1111's extension writes them.

A name may hold anything but `:`, `<` and `>`. What cannot be followed, such as steps of a schedule, is
said in a note; what cannot be read at all is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import InputError
from ..loras.stack import LoraEntry
from .removal import without

_TAG = re.compile(r"<(?:lora|lyco):([^<>]*)>", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)
_MODEL, _CLIP = ("unet", "model"), ("te", "clip")
_BLOCK = re.compile(r"BASE|MID|(?:IN|OUT|D|S)\d\d", re.IGNORECASE)
_LABEL = re.compile(r"[a-z][\w.-]*", re.IGNORECASE)
# Of other programs; they change when and how a LoRA works, not whether.
_NOT_FOLLOWED = ("start", "stop", "step", "dyn", "loader")


@dataclass(frozen=True)
class TaggedPrompt:
    """A prompt taken apart.

    Attributes:
        text: What is left for the text encoder.
        loras: In their order, also one that is written twice.
        notes: What was written and is not followed.
    """

    text: str
    loras: tuple[LoraEntry, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Tag:
    written: str
    name: str
    weights: list[float] = field(default_factory=list)
    named: dict[str, float] = field(default_factory=dict)
    blocks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def entry(self) -> LoraEntry:
        model = self.named.get("model", self.weights[0] if self.weights else 1.0)
        clip = self.named.get("clip", self.weights[1] if len(self.weights) > 1 else model)
        return LoraEntry(self.name, model, clip, ";".join(self.blocks))


def take_tags(prompt: str) -> TaggedPrompt:
    """Return a prompt without its LoRA tags, and the LoRAs.

    Raises:
        InputError: A tag cannot be read; the message shows it.
    """
    matches = list(_TAG.finditer(prompt))
    if not matches:
        return TaggedPrompt(prompt)
    tags = [_read(match.group(), match.group(1)) for match in matches]
    return TaggedPrompt(
        without(prompt, [match.span() for match in matches]),
        tuple(tag.entry() for tag in tags),
        tuple(note for tag in tags for note in tag.notes),
    )


def _read(written: str, inside: str) -> _Tag:
    name, *arguments = (part.strip() for part in inside.split(":"))
    tag = _Tag(written, name)
    if not tag.name:
        raise InputError(f"The tag {written} names no LoRA.", "Write <lora:name:weight>.")
    while arguments:
        argument = arguments.pop(0)
        if argument.lower().startswith("lbw="):
            argument = _whole_blocks(argument, arguments)
        _take(tag, argument)
    return tag


def _whole_blocks(argument: str, rest: list[str]) -> str:
    """Return block weights with what colons have cut off from them; that is taken from the rest."""
    key, _, value = argument.partition("=")
    if _BLOCK.fullmatch(value):
        while rest and "=" not in rest[0]:
            argument += f":{rest.pop(0)}"
    elif rest and "," in rest[0] and _LABEL.fullmatch(value):
        argument = f"{key}={rest.pop(0)}"
    return argument


def _take(tag: _Tag, argument: str) -> None:
    key, is_named, value = (part.strip() for part in argument.partition("="))
    if not argument:
        return
    if not is_named:
        tag.weights.append(_number(tag, argument))
        if len(tag.weights) > 2:
            raise InputError(
                f"The tag {tag.written} has {len(tag.weights)} weights.",
                "One for the model and one for the text encoders: <lora:name:0.8:0.6>.",
            )
    elif key.lower() == "lbw":
        _take_blocks(tag, value)
    elif key.lower() in _MODEL:
        tag.named["model"] = _number(tag, value)
    elif key.lower() in _CLIP:
        tag.named["clip"] = _number(tag, value)
    elif key.lower() in _NOT_FOLLOWED:
        tag.notes.append(f"{tag.written}: '{argument}' is not followed.")
    else:
        raise _unreadable(tag, argument)


def _take_blocks(tag: _Tag, value: str) -> None:
    """Keep a vector or a preset, and what its letters stand for."""
    for part in filter(None, (part.strip() for part in value.split(";"))):
        key, is_named, _ = (piece.strip() for piece in part.partition("="))
        if is_named and key.lower() in _NOT_FOLLOWED:
            tag.notes.append(f"{tag.written}: '{part}' is not followed.")
        else:
            tag.blocks.append(part.replace(" ", ""))


def _number(tag: _Tag, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise _unreadable(tag, text)
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _unreadable(tag, text)
    return number


def _unreadable(tag: _Tag, what: str) -> InputError:
    return InputError(
        f"The tag {tag.written} cannot be read: '{what}' is no weight.",
        "Write <lora:name:weight>, <lora:name:weight:clip weight> or "
        "<lora:name:weight:lbw=block weights>.",
    )
