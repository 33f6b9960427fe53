"""The model families that the demonstration can draw with: their files, and their loaders with and without the pack."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .workflows import SD15, STOCK, drawing, router

SDXL_MODEL = "sdxl_unet.safetensors"
CLIP_L, CLIP_G, VAE = "clip_l.safetensors", "clip_g.safetensors", "sdxl_vae.safetensors"
Prompt = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        title: What a person calls its models.
        make: Writes its files below a models folder.
        shared: Its workflow for a text, with the router.
        plain: The same with ComfyUI's own loaders.
        has_lora: Is there a LoRA for it?
    """

    title: str
    make: Callable[[Path], None]
    shared: Callable[[str], Prompt]
    plain: Callable[[str], Prompt]
    has_lora: bool


def _make_sd15(models: Path) -> None:
    from .models import make_lora, make_sd15

    make_sd15(models)
    make_lora(models)


def _make_sdxl(models: Path) -> None:
    from .models import make_sd15, make_sdxl

    make_sd15(models)  # CLIP-L and the VAE are its
    make_sdxl(models)
    target = models / "diffusion_models" / SDXL_MODEL
    shutil.move(models / "checkpoints" / "sd_xl_base_1.0.safetensors", target)


def _drawing_with(loader: Prompt) -> Callable[[str], Prompt]:
    return lambda text: drawing(loader, text)


def _plain_sdxl(text: str) -> Prompt:
    files = {"clip_name1": CLIP_L, "clip_name2": CLIP_G, "type": "sdxl"}
    loaders = {
        "1": {
            "class_type": "UNETLoader",
            "inputs": {"unet_name": SDXL_MODEL, "weight_dtype": "default"},
        },
        "9": {"class_type": "DualCLIPLoader", "inputs": files},
        "10": {"class_type": "VAELoader", "inputs": {"vae_name": VAE}},
    }
    return _relinked(drawing(STOCK, text), {1: ["9", 0], 2: ["10", 0]}) | loaders


def _relinked(prompt: Prompt, links: Mapping[int, list[object]]) -> Prompt:
    """Return a workflow in which outputs of node 1 come from elsewhere."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == "1":
                node["inputs"][name] = links.get(value[1], value)
    return prompt


_SHARED_SD15 = router(model_name=SD15, daemon_mode="force_daemon")
_SHARED_SDXL = router(
    model_source="diffusion_models",
    model_name=SDXL_MODEL,
    model_type="SDXL",
    model_type__clip_l=CLIP_L,
    model_type__clip_g=CLIP_G,
    vae_name=VAE,
    daemon_mode="force_daemon",
)
FAMILIES = {
    "sd15": Family(
        "an SD1.5 model and a LoRA",
        _make_sd15,
        _drawing_with(_SHARED_SD15),
        _drawing_with(STOCK),
        has_lora=True,
    ),
    "sdxl": Family(
        "SDXL's text encoders in their real size and a small model",
        _make_sdxl,
        _drawing_with(_SHARED_SDXL),
        _plain_sdxl,
        has_lora=False,
    ),
}
