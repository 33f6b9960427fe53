"""What the Luna Config Gateway does: LoRAs on, prompts encoded, an empty latent, all in one pipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import comfy.clip_model
import comfy.sd1_clip

from ...utils.conditioning.vision import with_vision
from ...utils.errors import InputError
from ...utils.loras.names import resolve
from ...utils.loras.stack import LoraEntry, merge, read_stack
from ...utils.prompts.lora_tags import TaggedPrompt, take_tags
from ...utils.sampling.first_block_cache import CacheSettings
from ...utils.sampling.pipe import Pipe
from ..lora.library import known_names
from ..lora.transient import with_loras
from ..sampling.first_block_cache import with_first_block_cache
from .empty_latent import empty_latent

Progress = Callable[[str], None]
_TEXTS = ("model_name", "positive_prompt", "negative_prompt")


class ClipSkipTiming(str, Enum):
    """When the last layers of the text encoders are left out. ComfyUI gives the same for both."""

    BEFORE_LORA = "before_lora"
    AFTER_LORA = "after_lora"


class MissingLoras(str, Enum):
    """What to do about a LoRA whose name fits no file, or several."""

    ERROR = "error"
    SKIP = "skip"


@dataclass(frozen=True, kw_only=True)
class Order:
    """The inputs of the gateway."""

    model: Any
    clip: Any
    vae: Any
    width: int
    height: int
    batch_size: int
    seed: int
    steps: int
    cfg: float
    denoise: float
    clip_skip: int
    clip_skip_timing: ClipSkipTiming
    sampler: str
    scheduler: str
    model_name: str = ""
    positive_prompt: str = ""
    negative_prompt: str = ""
    lora_stack: object = None
    missing_loras: MissingLoras = MissingLoras.ERROR
    fast_loras: bool = False
    vision_embed: object = None
    vision_strength: float = 1.0
    cache: CacheSettings = field(default_factory=lambda: CacheSettings(0.0))


@dataclass(frozen=True)
class Configured:
    """What comes out.

    Attributes:
        pipe: For samplers of this pack.
        metadata: For image savers.
        loras: In the order in which they were put on.
        positive: The prompt without LoRA tags.
        negative: The same of the negative prompt.
        report: What was done, in lines.
    """

    pipe: Pipe
    metadata: dict[str, Any]
    loras: tuple[LoraEntry, ...]
    positive: str
    negative: str
    report: str


def configure(order: Order, progress: Progress) -> Configured:
    """Carry out an order.

    Raises:
        InputError: A LoRA, a tag, an embed or the model does not fit.
        ModelFileError: A LoRA's file is damaged.
    """
    order = _checked(order)
    positive, negative = take_tags(order.positive_prompt), take_tags(order.negative_prompt)
    loras, notes = _chosen(order, positive, negative)
    progress(f"{len(loras)} LoRAs" if loras else "no LoRAs")
    clip, skipped = order.clip, ""
    if order.clip_skip_timing is ClipSkipTiming.BEFORE_LORA:
        clip, skipped = skip_layers(clip, order.clip_skip)
    patched = with_loras(order.model, clip, loras, fast=order.fast_loras)
    clip = patched.clip
    if order.clip_skip_timing is ClipSkipTiming.AFTER_LORA:
        clip, skipped = skip_layers(clip, order.clip_skip)
    model = with_first_block_cache(patched.model, order.cache)
    progress("positive prompt")
    texts = encode(clip, positive.text)
    if order.vision_embed is not None:
        texts = with_vision(texts, order.vision_embed, order.vision_strength)
    progress("negative prompt")
    pipe = Pipe(
        model=model,
        clip=clip,
        vae=order.vae,
        positive=texts,
        negative=encode(clip, negative.text),
        latent=empty_latent(model, order.width, order.height, order.batch_size),
        width=order.width,
        height=order.height,
        seed=order.seed,
        steps=order.steps,
        cfg=order.cfg,
        denoise=order.denoise,
        sampler=order.sampler,
        scheduler=order.scheduler,
    )
    lines = [*map(str, patched.reports), *notes, *positive.notes, *negative.notes, skipped]
    report = "\n".join(filter(None, lines)) or "No LoRAs."
    progress(report)
    metadata = _metadata(order, loras, positive.text, negative.text)
    return Configured(pipe, metadata, loras, positive.text, negative.text, report)


def _checked(order: Order) -> Order:
    """Return an order with texts where a node before gave nothing.

    Raises:
        InputError: There is no model, or no text encoder.
    """
    for name, what in (("model", "diffusion model"), ("clip", "text encoders")):
        if getattr(order, name) is None:
            raise InputError(
                f"The input '{name}' is empty: the file that is loaded before has no {what}.",
                "Load them from a file of their own; Luna Model Router takes one for each.",
            )
    texts: dict[str, Any] = {name: getattr(order, name) or "" for name in _TEXTS}
    return replace(order, **texts)


def _chosen(
    order: Order, positive: TaggedPrompt, negative: TaggedPrompt
) -> tuple[tuple[LoraEntry, ...], list[str]]:
    """Return every LoRA once, by the name of its file, and what was left out."""
    known = known_names()
    notes: list[str] = []

    def found(entries: Sequence[LoraEntry]) -> list[LoraEntry]:
        named = []
        for entry in entries:
            try:
                name = resolve(entry.name, known)
            except InputError as error:
                if order.missing_loras is MissingLoras.ERROR:
                    raise
                notes.append(f"Left out: {error.message}")
                continue
            named.append(
                LoraEntry(name, entry.model_strength, entry.clip_strength, entry.block_weights)
            )
        return named

    stack = found(read_stack(order.lora_stack))
    return merge(stack, found([*positive.loras, *negative.loras]), key=str), notes


def skip_layers(clip: Any, last: int) -> tuple[Any, str]:
    """Return text encoders that end at this layer, as CLIPSetLastLayer does, and what to know of it."""
    if not _are_clip(clip):
        return clip, "clip_skip has no meaning for these text encoders and was not applied."
    shortened = clip.clone()
    shortened.clip_layer(last)
    return shortened, ""


def _are_clip(clip: Any) -> bool:
    """Are all text encoders CLIP's, which others use without their last layers?"""
    kinds = [
        module.transformer
        for module in clip.cond_stage_model.modules()
        if isinstance(module, comfy.sd1_clip.SDClipModel)
    ]
    return bool(kinds) and all(isinstance(kind, comfy.clip_model.CLIPTextModel) for kind in kinds)


def encode(clip: Any, text: str) -> Any:
    """Encode a prompt as CLIPTextEncode does."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def _metadata(
    order: Order, loras: Sequence[LoraEntry], positive: str, negative: str
) -> dict[str, Any]:
    cache = order.cache
    return {
        "model": order.model_name,
        "model_name": order.model_name,
        "positive": order.positive_prompt,
        "positive_clean": positive,
        "negative": order.negative_prompt,
        "negative_clean": negative,
        "width": order.width,
        "height": order.height,
        "seed": order.seed,
        "steps": order.steps,
        "cfg": order.cfg,
        "denoise": order.denoise,
        "sampler": order.sampler,
        "sampler_name": order.sampler,
        "scheduler": order.scheduler,
        "clip_skip": order.clip_skip,
        "batch_size": order.batch_size,
        "loras": ", ".join(f"{entry.name}:{entry.model_strength:g}" for entry in loras),
        "lora_count": len(loras),
        "vision_conditioning": order.vision_embed is not None,
        "vision_strength": order.vision_strength,
        "fb_cache_enabled": cache.can_work,
        "fb_cache_range": [cache.start, cache.end],
    }
