"""An empty latent as a model wants it: its channels, its scale, its number of dimensions."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch

from ...utils.errors import InputError


def empty_latent(model: Any, width: int, height: int, batch: int) -> dict[str, Any]:
    """Return an empty latent for pictures of this size; for a video model, with one frame.

    Raises:
        InputError: The model makes no pictures.
    """
    wanted = model.get_model_object("latent_format")
    if wanted.latent_dimensions not in (2, 3):
        raise InputError(
            f"This model ({type(model.model).__name__}) makes no pictures: its latents have "
            f"{wanted.latent_dimensions} dimension.",
            "Load a model for pictures or videos.",
        )
    ratio = getattr(wanted, "spacial_downscale_ratio", 8)  # older releases know no other
    frames = [1] if wanted.latent_dimensions == 3 else []
    size = max(1, height // ratio), max(1, width // ratio)
    samples = torch.zeros(
        [batch, wanted.latent_channels, *frames, *size],
        device=comfy.model_management.intermediate_device(),
        dtype=_dtype(),
    )
    return {"samples": samples, "downscale_ratio_spacial": ratio}


def _dtype() -> torch.dtype:
    asked = getattr(comfy.model_management, "intermediate_dtype", None)
    return torch.float32 if asked is None else asked()
