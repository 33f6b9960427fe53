"""LoRAs of rank 16 in half precision with random numbers, as patches for a model's weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from comfy.weight_adapter.lora import LoRAAdapter

RANK = 16
ALPHA = 8.0
# What trainers make LoRAs of: all linear layers of CLIP's blocks, and of a U-Net's transformers.
TEXT_LAYERS = re.compile(r"\.layers\.\d+\.(self_attn\.\w+_proj|mlp\.fc[12])\.weight$")
UNET_LAYERS = re.compile(
    r"\.(attn[12]\.to_([qkv]|out\.0)|ff\.net\.(0\.proj|2)|proj_in|proj_out)\.weight$"
)

Patches = dict[str, Any]


def random_loras(
    weights: Mapping[str, torch.Tensor], layers: re.Pattern[str], count: int
) -> list[Patches]:
    """Return so many LoRAs, each weight's name → patch, for the weights whose names fit."""
    generator = torch.Generator().manual_seed(count)

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * 0.02).half()

    def adapter(shape: torch.Size) -> LoRAAdapter:
        kernel = (1,) * (len(shape) - 2)
        up, down = random(shape[0], RANK, *kernel), random(RANK, *shape[1:])
        return LoRAAdapter(set(), (up, down, ALPHA, None, None, None))

    shapes = {name: weight.shape for name, weight in weights.items() if layers.search(name)}
    return [{name: adapter(shape) for name, shape in shapes.items()} for _ in range(count)]


def bytes_of(loras: list[Patches], weights: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """Return how much LoRAs take, and how much the weights that they change."""
    matrices = [matrix for lora in loras for patch in lora.values() for matrix in patch.weights[:2]]
    changed = {name for lora in loras for name in lora}
    return sum(m.nbytes for m in matrices), sum(weights[name].nbytes for name in changed)
