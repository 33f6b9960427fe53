"""What an image says, added to what a text says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..errors import InputError

Conditioning = list[Any]
CLIP_VISION, QWEN_VISION = "clip_vision", "qwen3_vision"


def with_vision(conditioning: Conditioning, embed: object, strength: float) -> Conditioning:
    """Return a conditioning with a LUNA_VISION_EMBED; the given one stays as it is.

    A `clip_vision` embed is one vector that is added to every token; a `qwen3_vision` embed is tokens that
    come before those of the text; any other is left in the options under `vision_embed` for whoever knows
    it. The strength is applied once.

    Raises:
        InputError: It is no embed, or its width is not that of the conditioning.
    """
    if strength == 0:
        return conditioning
    kind, tensor = _read(embed)
    if kind not in (CLIP_VISION, QWEN_VISION):
        kept = {"vision_embed": embed, "vision_strength": strength}
        return [[text, {**options, **kept}] for text, options in conditioning]
    join = _added if kind == CLIP_VISION else _in_front
    return [join(text, options, tensor, strength) for text, options in conditioning]


def _read(embed: object) -> tuple[str, torch.Tensor]:
    tensor = embed.get("embedding") if isinstance(embed, Mapping) else None
    if not isinstance(embed, Mapping) or not isinstance(tensor, torch.Tensor):
        raise InputError(
            "This is no LUNA_VISION_EMBED: it has no tensor under 'embedding'.",
            "Link it from a Luna Vision Encoder.",
        )
    return str(embed.get("type", "")), tensor


def _added(
    text: torch.Tensor, options: Mapping[str, Any], tensor: torch.Tensor, strength: float
) -> list[Any]:
    tokens = _tokens(text, tensor)
    pooled = tokens.mean(dim=1, keepdim=True)
    return [text + strength * pooled, dict(options)]


def _in_front(
    text: torch.Tensor, options: Mapping[str, Any], tensor: torch.Tensor, strength: float
) -> list[Any]:
    tokens = strength * _tokens(text, tensor)
    options = dict(options)
    mask = options.get("attention_mask")
    if isinstance(mask, torch.Tensor):
        ones = torch.ones((*mask.shape[:-1], tokens.shape[1]), dtype=mask.dtype, device=mask.device)
        options["attention_mask"] = torch.cat([ones, mask], dim=-1)
    return [torch.cat([tokens, text], dim=1), options]


def _tokens(text: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return an embed as [batch of the text, tokens, width of the text]."""
    tokens = tensor.reshape(1, 1, -1) if tensor.dim() == 1 else tensor
    tokens = tokens.unsqueeze(1) if tokens.dim() == 2 else tokens
    if tokens.dim() != 3 or tokens.shape[-1] != text.shape[-1]:
        raise InputError(
            f"The vision embed has the shape {tuple(tensor.shape)}, and the text encoder's tokens are "
            f"{text.shape[-1]} wide.",
            "Use an image encoder of the same width as the text encoder, or leave the embed out.",
        )
    if tokens.shape[0] != text.shape[0]:
        if 1 not in (tokens.shape[0], text.shape[0]):
            raise InputError(
                f"The vision embed is of {tokens.shape[0]} images, the text of {text.shape[0]}."
            )
        tokens = tokens[:1].expand(text.shape[0], -1, -1)
    return tokens.to(device=text.device, dtype=text.dtype)
