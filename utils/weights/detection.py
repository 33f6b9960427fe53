"""Find out what a weight file holds from its header alone.

A registry: one table of detectors, asked in order; the first that knows the names and shapes answers.
Nothing is guessed: what no detector knows is UNKNOWN, and who asked decides what that means.
"""

from __future__ import annotations

from collections.abc import Callable

from . import diffusion_models, other_kinds, text_encoders
from .contents import UNKNOWN, Contents, Shapes
from .safetensors_header import SafetensorsHeader

Detector = Callable[[Shapes], "Contents | None"]

# What is added to a model comes first: its names often contain the names of the model.
DETECTORS: tuple[Detector, ...] = (
    other_kinds.detect_lora,
    other_kinds.detect_ip_adapter,
    other_kinds.detect_controlnet,
    diffusion_models.detect_checkpoint,
    text_encoders.detect_text_encoder,
    other_kinds.detect_clip_vision,
    other_kinds.detect_vae,
    diffusion_models.detect_diffusion_model,
)


def describe(header: SafetensorsHeader) -> Contents:
    """Return what the file with this header holds."""
    return describe_shapes({name: tensor.shape for name, tensor in header.tensors.items()})


def describe_shapes(shapes: Shapes) -> Contents:
    """Return what a file with tensors of these names and shapes holds."""
    return next(filter(None, (detect(shapes) for detect in DETECTORS)), UNKNOWN)
