"""Workflows in API form that draw with a loader, and what comes out of them."""

from __future__ import annotations

import copy
import io
from typing import Any

from ...errors import InternalError
from .models import LORA_NAME

SD15 = "v1-5-pruned-emaonly-fp16.safetensors"
_FEWEST_VALUES = 16
STOCK = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": SD15}}


def router(**inputs: object) -> dict[str, Any]:
    """Return a router; `model_type__clip_l` stands for `model_type.clip_l`."""
    values = {
        "model_source": "checkpoints",
        "model_name": SD15,
        "model_type": "Auto",
        "vae_name": "from checkpoint",
        "ip_adapter_name": "None",
        "daemon_mode": "force_local",
    }
    named = {name.replace("__", "."): value for name, value in inputs.items()}
    return {"class_type": "LunaModelRouter", "inputs": {**values, **named}}


def drawing(loader: dict[str, Any], text: str = "a lighthouse", steps: int = 2) -> dict[str, Any]:
    """Return a workflow that draws and saves an image with what `loader` gives."""
    encode = {"class_type": "CLIPTextEncode"}
    return {
        "1": loader,
        "2": {**encode, "inputs": {"text": text, "clip": ["1", 1]}},
        "3": {**encode, "inputs": {"text": "blurry", "clip": ["1", 1]}},
        "4": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        },
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["3", 0],
                "latent_image": ["4", 0],
                "seed": 7,
                "steps": steps,
                "cfg": 5.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
    }


def with_lora(prompt: dict[str, Any]) -> dict[str, Any]:
    """Put a LoRA between the loader and everything else."""
    prompt = copy.deepcopy(prompt)
    for node in ("2", "3"):
        prompt[node]["inputs"]["clip"] = ["8", 1]
    prompt["5"]["inputs"]["model"] = ["8", 0]
    inputs = {"lora_name": LORA_NAME, "strength_model": 0.8, "strength_clip": 0.7}
    inputs |= {"model": ["1", 0], "clip": ["1", 1]}
    prompt["8"] = {"class_type": "LoraLoader", "inputs": inputs}
    return prompt


def pixels(png: bytes) -> bytes:
    """Return the pixels of an image without its metadata.

    Raises:
        InternalError: It has next to no different values, as when a model gives nothing; equality of two
            such images would prove nothing.
    """
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        values = image.tobytes()
    if len(set(values)) <= _FEWEST_VALUES:
        raise InternalError("ComfyUI drew an image of one colour, which proves nothing.")
    return values
