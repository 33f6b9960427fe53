"""What a weight file can hold, in words. Who finds it out is in detection.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

Shapes = Mapping[str, tuple[int, ...]]


class FileKind(str, Enum):
    """Kinds of weight files. The value is what a sentence calls one."""

    CHECKPOINT = "a checkpoint"
    DIFFUSION_MODEL = "a diffusion model"
    TEXT_ENCODER = "a text encoder"
    VAE = "a VAE"
    CLIP_VISION = "a CLIP vision model"
    LORA = "a LoRA"
    CONTROLNET = "a ControlNet"
    IP_ADAPTER = "an IP-Adapter"
    UNKNOWN = "of an unknown kind"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds.

    Attributes:
        kind: What it is.
        family: Of a checkpoint or diffusion model: SD1.5, SDXL, SD3, Flux, Z-IMAGE, or "Other" where it
            is none of these. Else empty.
        encoder: Kind of a text encoder: clip_l, clip_g, t5xxl, qwen3_4b, … Else empty.
        baked_encoders: Kinds of the text encoders inside a checkpoint; "other" where it is unknown.
        has_vae: Is there a VAE inside the checkpoint?
        has_vision: Is there an image encoder beside a text encoder?
        latent_channels: Of a VAE, where its names and shapes tell; else 0.
        is_video: Is it a VAE whose latents have a time, too?
    """

    kind: FileKind
    family: str = ""
    encoder: str = ""
    baked_encoders: tuple[str, ...] = ()
    has_vae: bool = False
    has_vision: bool = False
    latent_channels: int = 0
    is_video: bool = False

    def __str__(self) -> str:
        details = {
            FileKind.CHECKPOINT: self.family,
            FileKind.DIFFUSION_MODEL: self.family,
            FileKind.TEXT_ENCODER: self.encoder,
            FileKind.VAE: "video" if self.is_video else "",
        }.get(self.kind, "")
        return f"{self.kind.value} ({details})" if details else self.kind.value


UNKNOWN = Contents(FileKind.UNKNOWN)
