"""One entry of a list of prompts, from the fields that a file has for it.

Files of other programs call the same thing by other names; those that are known are in `_FIELDS`. What has
no known name is left alone: a spreadsheet may have columns for its owner.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import InputError
from ..loras.stack import LoraEntry, read_stack
from ..prompts.lora_tags import take_tags

MAX_SEED = 2**64 - 1
MAX_SIDE = 16_384
_EXACT = 2**53  # above it a float no longer tells neighbouring whole numbers apart
# The first that an entry has and that is not empty counts.
_FIELDS = {
    "positive": ("positive_prompt", "positive", "prompt", "text", "caption"),
    "negative": ("negative_prompt", "negative"),
    "seed": ("seed", "noise_seed"),
    "loras": ("loras", "lora", "lora_stack"),
    "width": ("width",),
    "height": ("height",),
    "size": ("size", "resolution"),
    "name": ("name", "image_name", "file_name", "filename", "file"),
}
_SIZE = re.compile(r"(\d+)\s*[x×]\s*(\d+)", re.IGNORECASE)
_STRENGTHS = ("model_strength", "strength_model", "model_weight", "strength", "weight")


@dataclass(frozen=True, slots=True)
class PromptEntry:
    """What is asked for.

    Attributes:
        positive: The prompt, as written; it may have LoRA tags.
        negative: What the picture shall not show.
        loras: Those that stand beside the prompt.
        seed: None: none is given, or -1, which means any.
        width: In pixels; 0 where none is given.
        height: In pixels; 0 where none is given.
        name: What its picture is to be called; may be empty.
        line: Where it begins in its file, from 1.
    """

    positive: str
    negative: str = ""
    loras: tuple[LoraEntry, ...] = ()
    seed: int | None = None
    width: int = 0
    height: int = 0
    name: str = ""
    line: int = 0


def is_known_field(name: str) -> bool:
    """Tell whether a field of this name is read."""
    return any(_key(name) in names for names in _FIELDS.values())


def entry_of(record: object, file: str, line: int) -> PromptEntry:
    """Return an entry from a table of fields, or from a text that is its prompt.

    Raises:
        InputError: A field cannot be what it has to be; the message names file and line.
    """
    if isinstance(record, str):
        return PromptEntry(record.strip(), line=line)
    if not isinstance(record, Mapping):
        _refuse(file, line, "this is neither a prompt nor a table of fields")
    return _Fields(record, file, line).entry()


class _Fields:
    """The fields of one entry, and where they stand."""

    def __init__(self, record: Mapping[Any, Any], file: str, line: int) -> None:
        extra = record.get("extra")
        # `extra` is where the extractor puts seed and sampler.
        layers = [record, extra] if isinstance(extra, Mapping) else [record]
        self._layers = [{_key(str(key)): value for key, value in layer.items()} for layer in layers]
        self._file = file
        self._line = line

    def entry(self) -> PromptEntry:
        positive = self._text("positive")
        if positive is None:
            listed = ", ".join(_FIELDS["positive"])
            self._refuse(f"it has no prompt. A prompt's field is one of: {listed}")
        width, height = self._size()
        return PromptEntry(
            positive,
            self._text("negative") or "",
            self._loras(),
            self._seed(),
            width,
            height,
            self._text("name") or "",
            self._line,
        )

    def _value(self, field: str) -> Any:
        """Return what is given for a field; None where nothing is."""
        empty = None
        for layer in self._layers:
            for name in _FIELDS[field]:
                value = layer.get(name)
                if isinstance(value, str):
                    empty = "" if empty is None else empty
                    value = value.strip() or None
                if value is not None:
                    return value
        return empty

    def _text(self, field: str) -> str | None:
        value = self._value(field)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._refuse(f"its {field} is no text")
        return str(value)

    def _number(self, field: str) -> int | None:
        value = self._value(field)
        if value is None or value == "":
            return None
        if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
            return int(value)
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,30}(\.0+)?", value):
            return int(value.partition(".")[0])
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        hint = " A spreadsheet may have rounded it: format the column as text" if value else ""
        self._refuse(f"its {field} is '{value}', which is no whole number.{hint}")

    def _seed(self) -> int | None:
        seed = self._number("seed")
        if seed is None or seed == -1:
            return None
        if not 0 <= seed <= MAX_SEED:
            self._refuse(f"its seed {seed} is not from 0 to {MAX_SEED}, nor -1 for any")
        return seed

    def _size(self) -> tuple[int, int]:
        sides = [self._number("width"), self._number("height")]
        size = self._text("size")
        if size and sides == [None, None]:
            match = _SIZE.fullmatch(size)
            if match is None:
                self._refuse(f"its size is '{size}', which is not like 832x1216")
            sides = [int(match.group(1)), int(match.group(2))]
        for side in sides:
            if side is not None and not 0 <= side <= MAX_SIDE:
                self._refuse(f"a side of {side} pixels is not from 0 to {MAX_SIDE}")
        return sides[0] or 0, sides[1] or 0

    def _loras(self) -> tuple[LoraEntry, ...]:
        value = self._value("loras")
        if not value:
            return ()
        try:
            if isinstance(value, str):
                return _written_loras(value)
            if isinstance(value, Sequence):
                return read_stack([_with_strength(item) for item in value])
        except InputError as error:
            self._refuse(str(error).rstrip("."))
        self._refuse("its LoRAs are neither a list nor a text like name:1.0;other:0.8:0.6")

    def _refuse(self, why: str) -> NoReturn:
        _refuse(self._file, self._line, why)


def _written_loras(text: str) -> tuple[LoraEntry, ...]:
    """Read `name:1.0;other:0.8:0.6`, or LoRA tags."""
    if "<" in text:
        return take_tags(text).loras
    parts = [part.strip() for part in re.split(r"[;\n]", text)]
    return tuple(_written_lora(part) for part in parts if part)


def _written_lora(text: str) -> LoraEntry:
    name, *strengths = (part.strip() for part in text.split(":"))
    if len(strengths) > 2:
        raise InputError(
            f"The LoRA '{text}' has {len(strengths)} strengths; write name:1.0 or name:1.0:0.8."
        )
    numbers = [strength.replace(",", ".") for strength in strengths] or [
        "1"
    ]  # 0,8 in much of Europe
    (entry,) = read_stack([(name, *numbers)]) or (None,)
    if entry is None:
        raise InputError(f"The LoRA '{text}' has no name.")
    return entry


def _with_strength(item: Any) -> Any:
    """Return a LoRA with the strength 1 where it has none."""
    if isinstance(item, str):
        return (item, 1.0)
    if isinstance(item, (list, tuple)) and len(item) == 1:
        return (item[0], 1.0)
    if isinstance(item, Mapping) and not any(item.get(name) is not None for name in _STRENGTHS):
        return {**item, "model_strength": 1.0}
    return item


def _key(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def _refuse(file: str, line: int, why: str) -> NoReturn:
    raise InputError(f"'{file}', line {line}: {why}.", "Correct it in a text editor.")
