"""What can be asked of a model, and what comes back. The same structs travel client → daemon → worker.

Tensor fields are indexes into the segments of the message that carries them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from .names import wire_name
from .segments import TensorRef

Positive = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
NotNegative = Annotated[int, msgspec.Meta(ge=0, le=2**20)]
Text = Annotated[str, msgspec.Meta(max_length=200_000)]


class Tiling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Work tile by tile. Sizes are in pixels of the image, also when a latent is decoded."""

    tile: Annotated[int, msgspec.Meta(ge=64, le=8192)] = 512
    overlap: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 64


class Work(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="op",
    tag=wire_name,
):
    """One call of a model. `pool` names the workers that may serve it; `roles` the models it needs."""

    pool: ClassVar[str] = ""


class EncodeText(Work):
    """Texts → conditioning, by all text encoders of the workflow's model set.

    `clip_skip`: layers left out at the end, counted from the model family's own default (0 = default).
    """

    pool: ClassVar[str] = "clip"

    texts: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=256)]
    clip_skip: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0


class DecodeLatent(Work):
    """Latents [B, C, h, w] in the VAE's own space → images [B, H, W, 3], float32, 0..1."""

    pool: ClassVar[str] = "vae"

    latent: TensorRef
    tiling: Tiling | None = None  # None: whole, and tiled only when memory runs out


class EncodeImage(Work):
    """Images [B, H, W, 3] in 0..1 → latents [B, C, h, w] in the VAE's own space (the mode)."""

    pool: ClassVar[str] = "vae"

    image: TensorRef
    tiling: Tiling | None = None


class Echo(Work):
    """Send a tensor through the production path and back: the canary of a transport tier."""

    pool: ClassVar[str] = "any"

    tensor: TensorRef


AnyWork = EncodeText | DecodeLatent | EncodeImage | Echo


class Result(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag=wire_name,
):
    """What a call of a model gave."""


class Conditioning(Result):
    """`cond` [N, tokens, width] float32; `pooled` [N, width] float32, where the encoders have it."""

    cond: TensorRef
    pooled: TensorRef | None = None


class Images(Result):
    """`images` [B, H, W, 3] float32, 0..1."""

    images: TensorRef


class Latents(Result):
    """`latents` [B, C, h, w] float32, in the VAE's own space."""

    latents: TensorRef


class Echoed(Result):
    """The tensor of an `Echo`, bit for bit."""

    tensor: TensorRef


AnyResult = Conditioning | Images | Latents | Echoed
