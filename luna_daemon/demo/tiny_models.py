"""Makes model folders in diffusers' layout with random weights: true names and shapes, tiny sizes.

They stand in for SD1.5 and SDXL in the demo, the tests and the benchmarks. What they produce is noise,
but the same noise for the same seed on every machine. There is no UNet: the daemon needs none.

The text encoders' weights have the classic names (`text_model.…`), whatever names the installed
transformers would save them under, so that every version and ComfyUI read them.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ...utils.errors import InputError, ModelFileError
from ...utils.weights.safetensors_header import read_safetensors_header
from .tiny_tokenizer import TOKENIZER_FILES, write_tokenizer

TEXT_WEIGHTS = "model.safetensors"
VAE_WEIGHTS = "diffusion_pytorch_model.safetensors"
_SEED_NAME = "_luna_demo_seed"  # in model_index.json, where diffusers ignores it
_TEXT_CLASSES = {
    "CLIPTextModel": CLIPTextModel,
    "CLIPTextModelWithProjection": CLIPTextModelWithProjection,
}


def make_sd15_like(folder: Path, seed: int = 15) -> Path:
    """Make a folder with tokenizer, text_encoder and vae, like SD1.5, and return it.

    A folder that was made before with the same seed is left as it is.

    Raises:
        InputError: There is something else at this place.
    """
    encoders = {"text_encoder": _text_config("CLIPTextModel", width=48, act="quick_gelu")}
    return _make(folder, seed, "StableDiffusionPipeline", encoders)


def make_sdxl_like(folder: Path, seed: int = 10) -> Path:
    """Make a folder with two tokenizers, two text encoders and vae, like SDXL, and return it.

    A folder that was made before with the same seed is left as it is.

    Raises:
        InputError: There is something else at this place.
    """
    encoders = {
        "text_encoder": _text_config("CLIPTextModel", width=48, act="quick_gelu"),
        "text_encoder_2": _text_config("CLIPTextModelWithProjection", width=80, act="gelu"),
    }
    return _make(folder, seed, "StableDiffusionXLPipeline", encoders)


def _text_config(architecture: str, width: int, act: str) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": "clip_text_model",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "projection_dim": width,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "hidden_act": act,
        "layer_norm_eps": 1e-5,
        # As in the published configurations: not the tokenizer's ids, but "take the highest id".
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def _vae_config(scaling_factor: float) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": [8, 16, 32, 32],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 512,
        "scaling_factor": scaling_factor,
    }


def _make(folder: Path, seed: int, pipeline: str, encoders: Mapping[str, dict[str, Any]]) -> Path:
    if _is_complete(folder, seed, encoders):
        return folder
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if folder.exists():
        raise InputError(
            f"'{folder.name}' exists, but is not a complete demo model with seed {seed}.",
            "Delete the folder, or choose another place.",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        _write(temporary, seed, pipeline, encoders)
        _move(temporary, folder, seed, encoders)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _move(temporary: Path, folder: Path, seed: int, encoders: Mapping[str, dict[str, Any]]) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        if not _is_complete(folder, seed, encoders):  # else another process was quicker
            raise


def _is_complete(folder: Path, seed: int, encoders: Mapping[str, dict[str, Any]]) -> bool:
    weights = [folder / name / TEXT_WEIGHTS for name in encoders] + [folder / "vae" / VAE_WEIGHTS]
    tokenizers = [folder / name.replace("text_encoder", "tokenizer") for name in encoders]
    others = [file.with_name("config.json") for file in weights]
    others += [tokenizer / name for tokenizer in tokenizers for name in TOKENIZER_FILES]
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        for file in weights:
            read_safetensors_header(file)
    except (ModelFileError, OSError, ValueError):
        return False
    ours = isinstance(index, dict) and index.get(_SEED_NAME) == seed
    return ours and all(file.is_file() for file in others)


def _write(folder: Path, seed: int, pipeline: str, encoders: Mapping[str, dict[str, Any]]) -> None:
    index: dict[str, Any] = {"_class_name": pipeline, _SEED_NAME: seed, "unet": [None, None]}
    for name, config in encoders.items():
        tokenizer = name.replace("text_encoder", "tokenizer")
        pad = "!" if tokenizer == "tokenizer_2" else "<|endoftext|>"
        vocabulary = write_tokenizer(folder / tokenizer, pad)
        _write_text_encoder(folder / name, {**config, "vocab_size": vocabulary}, seed)
        index[name] = ["transformers", config["architectures"][0]]
        index[tokenizer] = ["transformers", "CLIPTokenizer"]
    _write_vae(
        folder / "vae", _vae_config(0.13025 if "text_encoder_2" in encoders else 0.18215), seed
    )
    index["vae"] = ["diffusers", "AutoencoderKL"]
    _write_json(folder / "model_index.json", index)


def _write_text_encoder(folder: Path, config: dict[str, Any], seed: int) -> None:
    kind = _TEXT_CLASSES[config["architectures"][0]]
    with torch.device("meta"):
        model = kind(CLIPTextConfig(**config))
    weights = _random_weights(model, seed, folder.name)
    named = {
        name
        if name.startswith(("text_model.", "text_projection."))
        else f"text_model.{name}": value
        for name, value in weights.items()
    }
    _write_json(folder / "config.json", config)
    save_file(named, folder / TEXT_WEIGHTS, metadata={"format": "pt"})


def _write_vae(folder: Path, config: dict[str, Any], seed: int) -> None:
    with torch.device("meta"):
        model = AutoencoderKL.from_config(config)
    weights = _random_weights(model, seed, folder.name)
    _write_json(folder / "config.json", config)
    save_file(weights, folder / VAE_WEIGHTS, metadata={"format": "pt"})


def _random_weights(model: torch.nn.Module, seed: int, salt: str) -> dict[str, torch.Tensor]:
    """Fill a model on `meta`; each weight depends on its name, its shape and the seed alone."""
    weights = {}
    for name, empty in model.state_dict().items():
        place = f"{seed}/{salt}/{name.removeprefix('text_model.')}"
        random = torch.Generator().manual_seed(zlib.crc32(place.encode()))
        noise = torch.randn(empty.shape, generator=random)
        if empty.dim() > 1:  # keeps the size of activations from layer to layer
            weights[name] = noise / math.sqrt(math.prod(empty.shape[1:]))
        else:
            weights[name] = 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
    return weights


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
