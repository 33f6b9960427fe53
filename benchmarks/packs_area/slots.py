"""What a node takes, read from what it declares, and what it is given where nobody chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# What the daemon may hold.
CLIP = "CLIP"
REMOTE = (CLIP, "VAE", "CLIP_VISION")
# What is there without another node.
GIVEN = (*REMOTE, "MODEL", "CONDITIONING", "LATENT", "IMAGE", "MASK")
# Of the same types, for known cases only.
SDXL_CLIP, LARGE_LATENT, LARGE_IMAGE = "SDXL_CLIP", "LARGE_LATENT", "LARGE_IMAGE"
ANYTHING = "*"
TEXT = "a (photo:1.3) of a [cat], highly detailed"

_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
_DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
_MATCHED_TYPE = "COMFY_MATCHTYPE_V3"
_WORDS_FOR_TEXT = ("text", "prompt", "positive", "negative")
# Numbers whose defaults are meant for real images and real models: words in the name, largest default that
# is taken as it is, what is taken instead.
_SMALLER = (
    (("width", "height", "size", "resolution"), 128, 64),
    (("steps",), 2, 2),
    (("frames", "length", "batch", "count"), 4, 2),
)


class NoValueError(Exception):
    """There is nothing to give to an input; the text says to which, and why."""


@dataclass(frozen=True)
class Slot:
    """One input of a node.

    Attributes:
        name: As the graph calls it.
        kind: Its type; several are separated by commas.
        is_required: Whether the node cannot do without.
        options: What is declared with it, such as `default`.
    """

    name: str
    kind: str
    is_required: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The types that it takes."""
        return tuple(kind.strip() for kind in self.kind.split(","))

    @property
    def is_widget(self) -> bool:
        """Whether a person would fill it in on the node."""
        return self.kind in _WIDGETS and not self.options.get("forceInput")


def slots_of(declared: Mapping[str, Any]) -> list[Slot]:
    """Return the inputs of a node from its INPUT_TYPES()."""
    return [
        slot
        for section in ("required", "optional")
        for name, told in (declared.get(section) or {}).items()
        for slot in _slots(name, told, section == "required")
    ]


def value_of(slot: Slot) -> Any:
    """Return what a widget is set to: its default, its first choice, a text, a small number.

    Raises:
        NoValueError: A list to choose from is empty.
    """
    options = slot.options
    if slot.kind == "COMBO":
        choices = options.get("options") or ()
        if not choices:
            raise NoValueError(f"'{slot.name}' has nothing to choose from")
        default = options.get("default")
        return default if default in choices else choices[0]
    if slot.kind == "STRING":
        return options.get("default") or _text_for(slot)
    if slot.kind == "BOOLEAN":
        return bool(options.get("default", False))
    if slot.kind == "FLOAT":
        return float(_smaller(slot, float(options.get("default", options.get("min", 1.0)))))
    return int(_smaller(slot, int(options.get("default", options.get("min", 1)))))


def _slots(name: str, told: Any, is_required: bool) -> Iterator[Slot]:
    told = told if isinstance(told, (list, tuple)) else (told,)
    kind, options = told[0], dict(told[1]) if len(told) > 1 and told[1] else {}
    if isinstance(kind, (list, tuple)):
        yield Slot(name, "COMBO", is_required, {**options, "options": list(kind)})
    elif kind == _DYNAMIC_COMBO:
        yield from _chosen_slots(name, options, is_required)
    elif kind == _MATCHED_TYPE:
        allowed = options.get("template", {}).get("allowed_types", ANYTHING)
        yield Slot(name, allowed, is_required, options)
    else:
        yield Slot(name, str(kind), is_required, options)


def _chosen_slots(name: str, options: Mapping[str, Any], is_required: bool) -> Iterator[Slot]:
    """A choice with inputs of its own: the first choice, and its inputs."""
    choices: Sequence[Any] = options.get("options") or ()
    keys = [choice["key"] for choice in choices]
    yield Slot(name, "COMBO", is_required, {"options": keys})
    for slot in slots_of(choices[0].get("inputs") or {}) if choices else ():
        yield Slot(f"{name}.{slot.name}", slot.kind, slot.is_required, slot.options)


def _text_for(slot: Slot) -> str:
    is_text = slot.options.get("multiline") or any(
        word in slot.name.lower() for word in _WORDS_FOR_TEXT
    )
    return TEXT if is_text else ""


def _smaller(slot: Slot, default: float) -> float:
    for words, largest, instead in _SMALLER:
        if default > largest and any(word in slot.name.lower() for word in words):
            return max(instead, type(default)(slot.options.get("min", instead)))
    return default
