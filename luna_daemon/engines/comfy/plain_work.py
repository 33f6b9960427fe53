"""Work for scripts, done as ComfyUI's own nodes do it: CLIPTextEncode, VAEDecode, VAEEncode, tiled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.sd1_clip
import torch

from ....utils.model_types import ModelKind
from ...errors import BadRequestError
from ...protocol.work import (
    Conditioning,
    DecodeLatent,
    EncodeImage,
    EncodeText,
    Images,
    Latents,
    Tiling,
)
from ..conditioning_cache import CacheKey, ConditioningCache
from ..engine import Outcome, Resident, RunControl
from .epochs import PLAIN
from .loading import ComfyModel

_NOUNS: dict[ModelKind, str] = {"clip": "a text encoder", "vae": "a VAE"}


def encode_text(
    cache: ConditioningCache,
    work: EncodeText,
    models: Mapping[str, Resident],
    tensors: Sequence[torch.Tensor],
    control: RunControl,
) -> Outcome:
    """Encode texts one after the other: in a batch some results would be rounded otherwise."""
    model = _only("clip", models)
    clip = model.object.clone()
    clip.patcher = model.base
    if work.clip_skip:
        clip.clip_layer(_last_layer(clip) - work.clip_skip)
    results, hits = [], 0
    for number, text in enumerate(work.texts, 1):
        control.check()
        key = CacheKey((model.key,), (text,), ("plain", work.clip_skip))
        found = cache.get(key)
        hits += found is not None
        if found is None:
            encoded = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
            found = tuple(part.detach().cpu() for part in encoded if part is not None)
            cache.put(key, found)
        results.append(found)
        control.progress(number, len(work.texts))
    if len({found[0].shape[1] for found in results}) > 1:
        raise BadRequestError(
            "The texts are of different lengths, so their conditioning cannot be joined.",
            "Encode them one by one.",
        )
    joined = tuple(torch.cat(column) for column in zip(*results, strict=True))
    result = Conditioning(cond=0, pooled=1 if len(joined) > 1 else None)
    return Outcome(result, joined, cache_hit=hits == len(results))


def decode_latent(
    work: DecodeLatent,
    models: Mapping[str, Resident],
    tensors: Sequence[torch.Tensor],
    control: RunControl,
) -> Outcome:
    """Decode latents, whole or in tiles."""
    vae, latent = _only("vae", models).object, _tensor(work.latent, tensors)
    if work.tiling is None:
        images = vae.decode(latent)
    else:
        images = vae.decode_tiled(latent, **_tiles(work.tiling, vae.spacial_compression_decode()))
    return Outcome(Images(images=0), (images.detach().cpu(),))


def encode_image(
    work: EncodeImage,
    models: Mapping[str, Resident],
    tensors: Sequence[torch.Tensor],
    control: RunControl,
) -> Outcome:
    """Encode images, whole or in tiles."""
    vae, image = _only("vae", models).object, _tensor(work.image, tensors)
    if work.tiling is None:
        latents = vae.encode(image)
    else:
        latents = vae.encode_tiled(image, **_tiles(work.tiling, 1))
    return Outcome(Latents(latents=0), (latents.detach().cpu(),))


def _only(kind: ModelKind, models: Mapping[str, Resident]) -> ComfyModel:
    fitting = [resident.model for resident in models.values() if resident.model.kind == kind]
    if len(fitting) != 1:
        count = "none" if not fitting else str(len(fitting))
        raise BadRequestError(
            f"This work needs {_NOUNS[kind]}; the workflow has registered {count}.",
            "Name one in the models of get_model_proxies.",
        )
    model: ComfyModel = fitting[0]
    model.applied, model.borrowed = (PLAIN, model.base), frozenset()
    return model


def _last_layer(clip: Any) -> int:
    """Return the layer whose state the encoders give when no layers are left out, from the end."""
    for module in clip.cond_stage_model.modules():
        if isinstance(module, comfy.sd1_clip.SDClipModel):
            layer, layer_idx = module.options_default[:2]
            return int(layer_idx) if layer == "hidden" else -1
    raise BadRequestError("This text encoder has no layers that can be left out.")


def _tiles(tiling: Tiling, compression: int) -> dict[str, int]:
    if tiling.overlap >= tiling.tile:
        raise BadRequestError(
            f"Tiles of {tiling.tile} pixels cannot overlap by {tiling.overlap}.",
            "Choose an overlap that is smaller than the tile.",
        )
    tile, overlap = tiling.tile // compression, tiling.overlap // compression
    return {"tile_x": tile, "tile_y": tile, "overlap": overlap}


def _tensor(index: int, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    if index >= len(tensors):
        raise BadRequestError(f"The request names tensor {index}, but has {len(tensors)}.")
    return tensors[index]
