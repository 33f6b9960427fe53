"""The models of the LoRA tests, and tiny transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ..loras.conftest import (
    as_in_comfyui,
    comfy_is_there,
    folder,
    lora_folder,
    loras,
    memory_is_given_back,
    model_files,
    stock,
)

__all__ = [
    "as_in_comfyui",
    "comfy_is_there",
    "folder",
    "lora_folder",
    "loras",
    "memory_is_given_back",
    "model_files",
    "stock",
]


@pytest.fixture(scope="session")
def transformers(comfy_is_there: None) -> Callable[[str], Any]:
    """Return tiny transformers by family: flux, sd3, qwen or wan; made when first asked for."""
    known: dict[str, Any] = {}

    def model(family: str) -> Any:
        if family not in known:
            known[family] = small_transformer(family)
        return known[family]

    return model


def _flux() -> tuple[Any, type]:
    import comfy.model_base
    import comfy.supported_models

    config = {
        "image_model": "flux",
        "in_channels": 16,
        "out_channels": 16,
        "vec_in_dim": 32,
        "context_in_dim": 48,
        "hidden_size": 64,
        "mlp_ratio": 2.0,
        "num_heads": 2,
        "depth": 3,
        "depth_single_blocks": 4,
        "axes_dim": [8, 12, 12],
        "theta": 10000,
        "patch_size": 2,
        "qkv_bias": True,
        "guidance_embed": True,
        "txt_ids_dims": [],
        "dtype": torch.float32,
    }
    return comfy.supported_models.Flux(config), comfy.model_base.Flux


def _sd3() -> tuple[Any, type]:
    import comfy.model_base
    import comfy.supported_models

    config = {
        "in_channels": 16,
        "depth": 3,
        "num_blocks": 4,
        "adm_in_channels": 32,
        "context_embedder_config": {
            "target": "torch.nn.Linear",
            "params": {"in_features": 48, "out_features": 192},
        },
        "pos_embed_scaling_factor": None,
        "pos_embed_max_size": 16,
        "num_patches": 256,
        "input_size": None,
        "patch_size": 2,
        "dtype": torch.float32,
    }
    return comfy.supported_models.SD3(config), comfy.model_base.SD3


def _qwen() -> tuple[Any, type]:
    import comfy.model_base
    import comfy.supported_models

    config = {
        "image_model": "qwen_image",
        "in_channels": 64,
        "num_layers": 4,
        "attention_head_dim": 32,
        "num_attention_heads": 2,
        "joint_attention_dim": 48,
        "axes_dims_rope": (8, 12, 12),
        "dtype": torch.float32,
    }
    return comfy.supported_models.QwenImage(config), comfy.model_base.QwenImage


def _wan() -> tuple[Any, type]:
    import comfy.model_base
    import comfy.supported_models

    config = {
        "image_model": "wan2.1",
        "model_type": "t2v",
        "dim": 64,
        "ffn_dim": 128,
        "num_heads": 2,
        "num_layers": 4,
        "text_dim": 48,
        "dtype": torch.float32,
    }
    return comfy.supported_models.WAN21_T2V(config), comfy.model_base.WAN21


def small_transformer(family: str) -> Any:
    """Return a new tiny transformer: flux, sd3, qwen, wan or z-image (whose weights are enough, it draws nothing)."""
    return _patcher(*_FAMILIES[family]())


def _z_image() -> tuple[Any, type]:
    import comfy.model_base
    import comfy.supported_models

    config = {
        "image_model": "lumina2",
        "patch_size": 2,
        "in_channels": 16,
        "dim": 64,
        "cap_feat_dim": 48,
        "n_layers": 3,
        "qk_norm": True,
        "n_heads": 2,
        "n_kv_heads": 2,
        "axes_dims": [8, 12, 12],
        "axes_lens": [64, 64, 64],
        "rope_theta": 256.0,
        "ffn_dim_multiplier": 8 / 3,
        "z_image_modulation": True,
        "time_scale": 1000.0,
        "pad_tokens_multiple": 32,
        "dtype": torch.float32,
    }
    return comfy.supported_models.Lumina2(config), comfy.model_base.Lumina2


_FAMILIES = {"flux": _flux, "sd3": _sd3, "qwen": _qwen, "wan": _wan, "z-image": _z_image}


def _patcher(config: Any, kind: type) -> Any:
    import comfy.model_patcher

    config.set_inference_dtype(torch.float32, None)
    model = kind(config, device="cpu")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            around = 1.0 if weight.dim() == 1 and "norm" in name else 0.0
            # As in trained models, the time of a step counts less than the picture.
            size = 0.002 if name.startswith(_TIME) else 0.05
            weight.copy_(around + size * torch.randn(weight.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith(
                "pos_embed"
            ):  # ComfyUI leaves it as the memory was, for a file to fill
                buffer.copy_(0.05 * torch.randn(buffer.shape, generator=generator))
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


_TIME = tuple(f"diffusion_model.{name}" for name in ("time_in", "t_embedder", "time_text_embed"))


def conditioning(width: int, pooled: int = 0, seed: int = 1) -> Any:
    """Return a conditioning as text encoders make it."""
    generator = torch.Generator().manual_seed(seed)
    options = {"guidance": 3.5}
    if pooled:
        options["pooled_output"] = torch.randn((1, pooled), generator=generator)
    return [[torch.randn((1, 7, width), generator=generator), options]]


def draw(model: Any, conditions: tuple[Any, Any], channels: int, steps: int = 8) -> torch.Tensor:
    """Sample with ComfyUI's own node."""
    import nodes

    latent = {"samples": torch.zeros(1, channels, 8, 12)}
    positive, negative = conditions
    samples: torch.Tensor = nodes.KSampler().sample(
        model, 5, steps, 3.0, "euler", "normal", positive, negative, latent
    )[0]["samples"]
    return samples
