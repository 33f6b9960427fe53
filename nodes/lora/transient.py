"""LoRAs for one run: patches on clones, which go when the run is over.

Nothing is edited in place. ComfyUI's own maths puts the patches in, when it loads the clone; text encoders
of the daemon get the same patches as a recipe. The names of the weights in a LoRA were worked out before
(mapping.py), so other strengths touch neither disk nor file.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...utils.errors import InputError
from ...utils.loras.base_models import guess_base_model
from ...utils.loras.block_weights import BASE, block_of, layout_of, read_block_weights
from ...utils.loras.stack import LoraEntry
from ...utils.weights.safetensors_header import read_safetensors_header
from ...utils.weights.shelf import READABLE
from .adapters import adapters_for, free_after_loading
from .library import Opened, open_lora
from .mapping import Mapped, map_lora, only_adds

# Names a set of patches, so that ComfyUI and the daemon find the same set in place again.
_NAMESPACE = uuid.UUID("6a2f2f0e-0f0c-4a58-9a53-5b8f6f2a1c7d")
_ATTACHMENT = "luna_base"
# Of the layers that have a LoRA's names, so many must have its sizes, too.
_ENOUGH = 0.75
Patch = Any


@dataclass(frozen=True)
class Report:
    """What one LoRA did.

    Attributes:
        entry: With the name of the file that was meant.
        used: Tensors of the file that work.
        unused: Those that do not fit.
    """

    entry: LoraEntry
    used: int
    unused: int

    def __str__(self) -> str:
        entry = self.entry
        text = f"{entry.name}: {entry.model_strength:g} model, {entry.clip_strength:g} text"
        if entry.block_weights:
            text += f", blocks {entry.block_weights}"
        unused = f", {self.unused} without a place" if self.unused else ""
        return f"{text}; {self.used} tensors{unused}"


@dataclass(frozen=True)
class WithLoras:
    """Clones with patches; the same objects where there is nothing to patch."""

    model: Any
    clip: Any
    reports: tuple[Report, ...]


def with_loras(
    model: Any, clip: Any, entries: Sequence[LoraEntry], *, fast: bool = False
) -> WithLoras:
    """Return clones of a model and text encoders with these LoRAs, in this order.

    Args:
        model: A MODEL or None.
        clip: A CLIP or None.
        entries: Names as in prompts and stacks.
        fast: Round less often than ComfyUI does; off, the weights are ComfyUI's bit for bit.

    Raises:
        InputError: A LoRA is not there, was made for another model, or its block weights do not fit.
        ModelFileError: A file is damaged.
    """
    working = [entry for entry in entries if entry.model_strength or entry.clip_strength]
    opened = [open_lora(entry.name) for entry in working]
    mapped = [map_lora(each.lora, model, clip) for each in opened]
    for each, fits in zip(opened, mapped, strict=True):
        _refuse_other_base(each, fits, model, clip)
    sides = _Side(model, "model", fast), _Side(clip, "clip", fast)
    for entry, each, fits in zip(working, opened, mapped, strict=True):
        for side in sides:
            side.add(entry, each, fits, model)
    return WithLoras(
        sides[0].finished(),
        sides[1].finished(),
        tuple(
            Report(_renamed(entry, each.name), fits.used, fits.unused)
            for entry, each, fits in zip(working, opened, mapped, strict=True)
        ),
    )


def base_of(model: Any) -> Any:
    """Return the model that the LoRAs of a run were put on, or None where none of ours are on it."""
    return model.get_attachment(_ATTACHMENT)


class _Side:
    """A diffusion model or text encoders on the way to a clone with patches."""

    def __init__(self, base: Any, name: str, fast: bool) -> None:
        self.base, self.name, self.fast = base, name, fast
        self.clone: Any = None
        self.said: list[str] = []

    def add(self, entry: LoraEntry, opened: Opened, mapped: Mapped, model: Any) -> None:
        if self.base is None:
            return
        patches: dict[Any, Patch] = getattr(mapped, self.name)
        strength: float = getattr(entry, f"{self.name}_strength")
        groups = [(strength * factor, group) for factor, group in _by_factor(patches, entry, model)]
        if all(not group or (scale == 0 and only_adds(group.values())) for scale, group in groups):
            return  # another set of patches would be loaded anew, and be the same weights
        if self.clone is None:
            self.clone = self.base.clone()
        for scale, group in groups:
            self.clone.add_patches(adapters_for(group, fast=self.fast), scale)
        if opened.lora.metadata:  # as ComfyUI's own loader leaves it for nodes behind
            self.patcher(self.clone).set_attachments("lora_metadata", opened.lora.metadata)
        path, stamp = opened.lora.path, opened.stamp
        self.said.append(repr((str(path), stamp, strength, entry.block_weights)))

    def finished(self) -> Any:
        if self.clone is None:
            return self.base
        patcher, before = self.patcher(self.clone), self.patcher(self.base)
        free_after_loading(patcher)
        patcher.patches_uuid = uuid.uuid5(
            _NAMESPACE,
            " ".join((str(before.patches_uuid), self.name, f"fast={self.fast}", *self.said)),
        )
        if self.name == "model" and base_of(self.clone) is None:
            self.clone.set_attachments(_ATTACHMENT, self.base)
        return self.clone

    def patcher(self, thing: Any) -> Any:
        return thing if self.name == "model" else thing.patcher


def _renamed(entry: LoraEntry, name: str) -> LoraEntry:
    return LoraEntry(name, entry.model_strength, entry.clip_strength, entry.block_weights)


def _by_factor(
    patches: dict[Any, Patch], entry: LoraEntry, model: Any
) -> Iterable[tuple[float, dict[Any, Patch]]]:
    """Return patches grouped by their block's weight."""
    if not entry.block_weights:
        return [(1.0, patches)]
    layout = None if model is None else layout_of(model.model.state_dict())
    if layout is None:
        raise InputError(
            f"The LoRA '{entry.name}' has block weights, and the blocks of {_kind_of(model)} have no "
            "names that these could mean.",
            "Block weights work on SD1.5, SDXL and Flux.",
        )
    weights = read_block_weights(entry.block_weights, layout)
    groups: dict[float, dict[Any, Patch]] = {}
    for target, patch in patches.items():
        block = block_of(target if isinstance(target, str) else target[0])
        groups.setdefault(weights.get(block, weights[BASE]), {})[target] = patch
    return groups.items()


def _refuse_other_base(opened: Opened, mapped: Mapped, model: Any, clip: Any) -> None:
    if model is None and mapped.speaks_of_model:
        return  # it may be for diffusion models only, and there is none to put it on
    on_model = model is not None and mapped.speaks_of_model
    fitting = len(mapped.model if on_model else mapped.clip)
    misfits = mapped.model_misfits if on_model else mapped.clip_misfits
    if fitting and fitting >= _ENOUGH * (fitting + misfits):
        return
    what = f"{misfits} of its layers have another size than those of"
    if not misfits:
        what = "nothing in it fits"
    raise InputError(
        f"The LoRA '{opened.name}' was made for another model: {what} {_kind_of(model, clip)}. "
        f"By its file it is for: {_made_for(opened)}.",
        "Take it out, or load a model that it was made for.",
    )


def _made_for(opened: Opened) -> str:
    if opened.lora.path.suffix.lower() not in READABLE:
        return "unknown"
    return str(guess_base_model(read_safetensors_header(opened.lora.path)))


def _kind_of(model: Any, clip: Any = None) -> str:
    if model is not None:
        return f"this model ({type(model.model.model_config).__name__})"
    return f"these text encoders ({type(clip.cond_stage_model).__name__})" if clip else "no model"
