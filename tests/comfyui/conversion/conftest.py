"""Small diffusion models as files, and stock ComfyUI to load what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ..gateway.conftest import conditioning, draw
from ..proxy.conftest import as_in_comfyui, comfy_is_there
from ..router_models import write

__all__ = ["as_in_comfyui", "comfy_is_there"]


@dataclass(frozen=True)
class Family:
    """A family of models: a file of a small one, and what its text encoders give."""

    file: Path
    width: int
    pooled: int
    channels: int


@pytest.fixture(scope="session")
def family(
    comfy_is_there: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Family]:
    """Return families by name; their files are made when they are first asked for."""
    folder = tmp_path_factory.mktemp("sources")
    makers: dict[str, tuple[Callable[[], dict[str, torch.Tensor]], int, int, int]] = {
        "sd15": (lambda: _unet((1,), 768), 768, 0, 4),
        "sdxl": (lambda: _unet((0, 2, 5), 2048, 2816), 2048, 1280, 4),
        "flux": (_flux, 256, 768, 16),
        "sd3": (_sd3, 4096, 2048, 16),
        "wan": (_wan, 4096, 0, 16),
    }

    def get(name: str) -> Family:
        path = folder / f"{name}.safetensors"
        make, *sizes = makers[name]
        if not path.exists():
            write(folder, path.name, make())
        return Family(path, *sizes)

    return get


def _unet(depths: tuple[int, ...], context: int, pooled: int = 0) -> dict[str, torch.Tensor]:
    from luna_collection.luna_daemon.demo.comfyui.models import Unet

    return Unet(3, depths, context, pooled).weights


def _flux() -> dict[str, torch.Tensor]:
    from comfy.ldm.flux.model import Flux

    return _random(
        Flux,
        image_model="flux",
        in_channels=16,
        out_channels=16,
        vec_in_dim=768,
        context_in_dim=256,
        hidden_size=256,
        mlp_ratio=4.0,
        num_heads=2,
        depth=2,
        depth_single_blocks=2,
        axes_dim=[16, 56, 56],
        theta=10000,
        patch_size=2,
        qkv_bias=True,
        txt_ids_dims=[],
        guidance_embed=True,
    )


def _sd3() -> dict[str, torch.Tensor]:
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    return _random(
        MMDiT,
        in_channels=16,
        depth=4,
        adm_in_channels=2048,
        context_embedder_config={
            "target": "torch.nn.Linear",
            "params": {"in_features": 4096, "out_features": 256},
        },
        pos_embed_scaling_factor=None,
        pos_embed_max_size=16,
        num_patches=256,
        input_size=None,
        patch_size=2,
    )


def _wan() -> dict[str, torch.Tensor]:
    from comfy.ldm.wan.model import WanModel

    return _random(WanModel, dim=256, ffn_dim=512, num_heads=2, num_layers=2)


def ltxv() -> dict[str, torch.Tensor]:
    """Return a small LTX-Video model; it is known by its tensors, and set by a text in its file."""
    from comfy.ldm.lightricks.model import LTXVModel

    sizes = {"cross_attention_dim": 256, "attention_head_dim": 8, "num_layers": 2}
    return _random(LTXVModel, **sizes)


def _random(kind: type, **config: Any) -> dict[str, torch.Tensor]:
    """Return random weights of a module, of sizes that keep activations steady."""
    import comfy.ops

    module = kind(
        **config, dtype=torch.bfloat16, device="meta", operations=comfy.ops.disable_weight_init
    )
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for name, own in module.state_dict().items():
        around = 1.0 if own.dim() == 1 and "norm" in name else 0.0
        numbers = torch.randn(own.shape, generator=generator)
        weights[name] = (around + 0.04 * numbers).to(torch.bfloat16)
    return weights


def sample(model: Any, family: Family, steps: int = 2) -> torch.Tensor:
    """Sample a picture's latent with ComfyUI's own node."""
    conditions = (
        conditioning(family.width, family.pooled),
        conditioning(family.width, family.pooled, seed=2),
    )
    return draw(model, conditions, family.channels, steps)
