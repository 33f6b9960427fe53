"""Diffusion models so small that tests can run them, of families that GGUF files are made of."""

from __future__ import annotations

from typing import Any

import torch
from luna_collection.luna_daemon.demo.comfyui.models import Unet

from ..engine.random_weights import Weights, random_weights


def sd15() -> Weights:
    """Return a U-Net of SD1.5 with one level."""
    return Unet(3, (1,), 768).weights


def sdxl() -> Weights:
    """Return a U-Net of SDXL with narrow levels."""
    return Unet(4, (0, 2, 5), 2048, pooled=2816).weights


def sd3() -> Weights:
    """Return an MMDiT of SD3 with four blocks."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    context = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 256}}
    module = MMDiT(
        input_size=None,
        in_channels=16,
        depth=4,
        adm_in_channels=2048,
        context_embedder_config=context,
        num_patches=1024,
        pos_embed_max_size=32,
        qk_norm="rms",
        device="meta",
        dtype=torch.float16,
        operations=comfy.ops.manual_cast,
    )
    return random_weights(module, torch.float16, 5, 0.05)


def wan() -> Weights:
    """Return a Wan 2.1 of two blocks: with a convolution of five dimensions, and weights of no layer."""
    import comfy.ops
    from comfy.ldm.wan.model import WanModel

    module = WanModel(
        dim=256,
        ffn_dim=512,
        num_heads=2,
        num_layers=2,
        device="meta",
        dtype=torch.float16,
        operations=comfy.ops.manual_cast,
    )
    return random_weights(module, torch.float16, 6, 0.05)


# Name → what makes its weights, and what GGUF files call it.
FAMILIES = {"sd15": (sd15, "sd1"), "sdxl": (sdxl, "sdxl"), "sd3": (sd3, "sd3"), "wan": (wan, "wan")}


def inputs(family: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what a family's model is called with: two images and their conditions."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    latent = {
        "sd15": (2, 4, 8, 8),
        "sdxl": (2, 4, 8, 8),
        "sd3": (2, 16, 8, 8),
        "wan": (1, 16, 2, 8, 8),
    }
    context = {"sd15": 768, "sdxl": 2048, "sd3": 4096, "wan": 4096}[family]
    x = random(*latent[family])
    steps = torch.tensor([0.3, 0.9] if family in ("sd3", "wan") else [5.0, 500.0])[: len(x)]
    named: dict[str, Any] = {"c_crossattn": random(len(x), 77, context)}
    if family in ("sdxl", "sd3"):
        named["y"] = random(len(x), 2816 if family == "sdxl" else 2048)
    return (x, steps), named
