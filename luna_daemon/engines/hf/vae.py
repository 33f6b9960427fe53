"""Latents ⇄ images with diffusers' AutoencoderKL: whole, in tiles, or whatever fits into memory.

On the CPU the items of a batch go through the model one by one: a batch is not quicker there, and an
item's result does not depend on the batch it came in. On other devices the whole batch goes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ....utils.images.tiling import Scale, TilePlan, plan_tiles, run_tiled
from ...errors import BadRequestError
from ...protocol.work import DecodeLatent, EncodeImage, Images, Latents, Tiling
from ...protocol.worker_messages import ModelSpec
from ..engine import Outcome, RunControl
from ..oom import Job, Step, plan_steps, run_in_steps
from .files import shown
from .loading import load_module

_FORCED_OVERLAP = 4  # tiles that a lack of memory brings share a fourth of their side


@dataclass(frozen=True, slots=True)
class Vae:
    """An AutoencoderKL and what has to be known to feed it.

    Attributes:
        module: The model.
        channels: Of its latents.
        factor: Pixels per latent cell and side.
    """

    module: Any
    channels: int
    factor: int

    @property
    def device(self) -> str:
        """The device that holds it, as torch calls it."""
        return str(self.module.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents [n, C, h, w], any device and float type, to images [n, 3, f*h, f*w], -1..1."""
        image: torch.Tensor = self.module.decode(self._feed(latents)).sample
        return image

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Map images [n, 3, f*h, f*w] in 0..1, any device and float type, to latents [n, C, h, w]."""
        scaled = self._feed(images.to(torch.float32) * 2 - 1)
        latent: torch.Tensor = self.module.encode(scaled).latent_dist.mode()
        return latent

    def _feed(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.module.device, self.module.dtype)


def load_vae(spec: ModelSpec, device: str, image: int | None = None) -> Vae:
    """Load a VAE.

    Raises:
        BadRequestError: A file is damaged, of another kind, or lacks weights, or the VAE is not for
            images of three colours.
        NotFoundError: A file is missing.
        OutOfMemoryError: The device has no room for it.
    """
    module = load_module(spec, device, image)
    config = module.config
    if (config.in_channels, config.out_channels) != (3, 3):
        raise BadRequestError(
            f"'{shown(Path(spec.path), 2)}' takes images of {config.in_channels} channels and gives "
            f"{config.out_channels}, but images here are red, green and blue.",
            "Choose another VAE.",
        )
    return Vae(module, config.latent_channels, 2 ** (len(config.block_out_channels) - 1))


def decode_latent(
    vae: Vae, latent_bchw: torch.Tensor, work: DecodeLatent, control: RunControl
) -> Outcome:
    """Decode latents [B, C, h, w] to images [B, f*h, f*w, 3], float32, 0..1, on the CPU.

    Raises:
        BadRequestError: The latents are not this VAE's, or the overlap is not smaller than the tile.
        OutOfMemoryError: Even small tiles need more memory than there is.
        CanceledError: `control.check()` said so.
    """
    _check_latent(vae, latent_bchw)
    direction = _Direction("Decoding", vae, vae.decode, Scale(1, vae.factor))
    image_bchw = _run(direction, latent_bchw, work.tiling, control)
    image_bchw = image_bchw.div_(2).add_(0.5).clamp_(0, 1)
    return Outcome(Images(images=0), (image_bchw.permute(0, 2, 3, 1),))


def encode_image(
    vae: Vae, image_bhwc: torch.Tensor, work: EncodeImage, control: RunControl
) -> Outcome:
    """Encode images [B, H, W, 3 or 4] in 0..1 to latents [B, C, H//f, W//f], float32, on the CPU.

    Alpha is left out, and sides that are no multiple of f are cropped at the centre; both are told.

    Raises:
        BadRequestError: These are no images, or a side is shorter than f pixels, or the overlap is not
            smaller than the tile.
        OutOfMemoryError: Even small tiles need more memory than there is.
        CanceledError: `control.check()` said so.
    """
    _check_image(vae, image_bhwc)
    if image_bhwc.shape[-1] == 4:
        control.note("The image's alpha channel was left out: the VAE has no use for it.")
    image_bchw = _crop(image_bhwc[..., :3], vae.factor, control).permute(0, 3, 1, 2)
    direction = _Direction("Encoding", vae, vae.encode, Scale(vae.factor, 1))
    return Outcome(Latents(latents=0), (_run(direction, image_bchw, work.tiling, control),))


def _check_latent(vae: Vae, latent: torch.Tensor) -> None:
    fits = latent.dim() == 4 and latent.shape[1] == vae.channels
    if not fits or latent.numel() == 0 or not latent.is_floating_point():
        raise BadRequestError(
            f"The latent has the shape {list(latent.shape)} and the type {_name(latent.dtype)}, but this "
            f"VAE decodes latents of the shape [batch, {vae.channels}, height, width] in floating point.",
            "Choose the VAE that belongs to the model that made the latent.",
        )


def _check_image(vae: Vae, image: torch.Tensor) -> None:
    fits = image.dim() == 4 and image.shape[-1] in (3, 4) and image.is_floating_point()
    if not fits or image.numel() == 0:
        raise BadRequestError(
            f"The image has the shape {list(image.shape)} and the type {_name(image.dtype)}, but a VAE "
            "encodes images of the shape [batch, height, width, 3] in floating point, from 0 to 1."
        )
    if min(image.shape[1:3]) < vae.factor:
        raise BadRequestError(
            f"The image has {_size(image)} pixels, but this VAE needs at least {vae.factor} on each side.",
            "Enlarge the image first.",
        )


def _crop(image_bhwc: torch.Tensor, factor: int, control: RunControl) -> torch.Tensor:
    height, width = (side // factor * factor for side in image_bhwc.shape[1:3])
    if (height, width) == image_bhwc.shape[1:3]:
        return image_bhwc
    top, left = (side % factor // 2 for side in image_bhwc.shape[1:3])
    cropped = image_bhwc[:, top : top + height, left : left + width]
    control.note(
        f"The image of {_size(image_bhwc)} pixels was cropped at the centre to {_size(cropped)}, because "
        f"the VAE works in blocks of {factor} pixels."
    )
    return cropped


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _size(image_bhwc: torch.Tensor) -> str:
    return f"{image_bhwc.shape[2]} x {image_bhwc.shape[1]}"


@dataclass(frozen=True, slots=True)
class _Direction:
    """Decoding or encoding: a function on a batch, and elements per latent cell on both its sides."""

    verb: str
    vae: Vae
    run: Callable[[torch.Tensor], torch.Tensor]
    scale: Scale


def _run(
    direction: _Direction, batch: torch.Tensor, tiling: Tiling | None, control: RunControl
) -> torch.Tensor:
    """Return the results of a batch [B, …], float32, on the CPU."""
    vae, count = direction.vae, len(batch)
    height, width = (side // direction.scale.source for side in batch.shape[-2:])  # latent cells
    picture = f"{width * vae.factor} x {height * vae.factor} pixels"
    steps = _plan_steps(vae, count, max(height, width) * vae.factor, tiling)
    job = Job(f"{direction.verb} {count} x {picture}", vae.device, steps, control)

    def run(items: torch.Tensor, step: Step, done: int) -> torch.Tensor:
        def on_tile(tile: int, tiles: int) -> None:
            control.check()
            control.progress(done * tiles + tile, count * tiles)

        if step.tile_px is not None:
            plan = _plan_tiles((height, width), step.tile_px, tiling, vae.factor)
            return run_tiled(items, plan, direction.run, direction.scale, on_tile)
        result = direction.run(items).to("cpu", torch.float32)
        control.progress(done + len(items), count)
        return result

    return run_in_steps(batch, job, run)


def _plan_steps(vae: Vae, count: int, side_px: int, tiling: Tiling | None) -> tuple[Step, ...]:
    if tiling is None:
        together = 1 if torch.device(vae.device).type == "cpu" else count
        return plan_steps(together, side_px, vae.factor)
    if tiling.overlap >= tiling.tile:
        raise BadRequestError(
            f"Tiles of {tiling.tile} pixels cannot overlap by {tiling.overlap}.",
            "Choose an overlap that is smaller than the tile.",
        )
    smaller = plan_steps(1, min(tiling.tile, side_px), vae.factor)[1:]
    return (Step(1, tiling.tile), *smaller)


def _plan_tiles(
    cells: tuple[int, int], tile_px: int, tiling: Tiling | None, factor: int
) -> TilePlan:
    if tiling is not None and tiling.tile == tile_px:
        overlap_px = tiling.overlap
    else:
        overlap_px = tile_px // _FORCED_OVERLAP
    tile = max(tile_px // factor, 1)
    return plan_tiles(*cells, tile, min(overlap_px // factor, tile - 1))
