"""Makes model folders in diffusers' layout with random weights and the sizes of real models.

What they cost and how much memory they take is what the real ones do; what they produce is noise. The
tokenizer is the small one of the demonstration, whose ids all lie in the large vocabulary.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ..luna_daemon.demo.tiny_models import TEXT_WEIGHTS, VAE_WEIGHTS
from ..luna_daemon.demo.tiny_tokenizer import write_tokenizer

VOCABULARY = 49408
_VAE_CHANNELS = (128, 256, 512, 512)  # of SD1.5 and SDXL


@dataclass(frozen=True, slots=True)
class EncoderSize:
    """The shape of a CLIP text encoder."""

    width: int
    layers: int
    heads: int
    activation: str
    projected: bool


CLIP_L = EncoderSize(768, 12, 12, "quick_gelu", projected=False)
CLIP_L_SHORT = EncoderSize(768, 2, 12, "quick_gelu", projected=False)
CLIP_G = EncoderSize(1280, 32, 20, "gelu", projected=True)
CLIP_G_SHORT = EncoderSize(1280, 4, 20, "gelu", projected=True)


def make_text_encoder(repository: Path, size: EncoderSize, number: str = "") -> Path:
    """Make REPO/text_encoder<number> and its tokenizer, with fp16 weights; return the encoder's folder.

    A folder that was made before is left as it is.
    """
    folder = repository / f"text_encoder{number}"
    if folder.is_dir():
        return folder
    write_tokenizer(repository / f"tokenizer{number}", "!" if number else "<|endoftext|>")
    kind = CLIPTextModelWithProjection if size.projected else CLIPTextModel
    config = _text_config(kind.__name__, size)
    with torch.device("meta"):
        model = kind(CLIPTextConfig(**config))
    _write(folder, config, TEXT_WEIGHTS, _random_weights(model))
    return folder


def make_vae(repository: Path, *, narrower: int = 1) -> Path:
    """Make REPO/vae, as SDXL's but with so many times fewer channels; return its folder."""
    folder = repository / "vae"
    if folder.is_dir():
        return folder
    config = {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": [channels // narrower for channels in _VAE_CHANNELS],
        "down_block_types": ["DownEncoderBlock2D"] * len(_VAE_CHANNELS),
        "up_block_types": ["UpDecoderBlock2D"] * len(_VAE_CHANNELS),
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
    }
    with torch.device("meta"):
        model = AutoencoderKL.from_config(config)
    _write(folder, config, VAE_WEIGHTS, _random_weights(model))
    return folder


def _text_config(architecture: str, size: EncoderSize) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": "clip_text_model",
        "vocab_size": VOCABULARY,
        "hidden_size": size.width,
        "intermediate_size": 4 * size.width,
        "projection_dim": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "max_position_embeddings": 77,
        "hidden_act": size.activation,
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "eos_token_id": 2,  # as in the published configurations: "take the highest id"
        "pad_token_id": 1,
    }


def _random_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Fill a model on `meta` so that activations keep their size from layer to layer."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, empty in model.state_dict().items():
        if empty.dim() > 1:
            scale = 1 / math.sqrt(math.prod(empty.shape[1:]))
            noise = torch.rand(empty.shape, generator=generator).sub_(0.5).mul_(2 * scale)
        else:
            noise = torch.full(empty.shape, 1.0 if name.endswith("weight") else 0.0)
        weights[name] = noise.half()
    return weights


def _write(
    folder: Path, config: dict[str, Any], file: str, weights: dict[str, torch.Tensor]
) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    save_file(weights, folder / file, metadata={"format": "pt"})
