"""Small diffusion models with random weights, in the layouts of real ones."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

FLUX = {
    "img_in.weight": (256, 64),
    "img_in.bias": (256,),
    "txt_in.weight": (256, 128),
    "vector_in.in_layer.weight": (256, 768),
    "double_blocks.0.img_attn.norm.key_norm.scale": (64,),
    "double_blocks.0.img_attn.qkv.weight": (768, 256),
    "double_blocks.0.img_attn.qkv.bias": (768,),
    "double_blocks.0.img_attn.proj.weight": (256, 256),
    "double_blocks.0.img_mlp.0.weight": (1024, 256),
    "double_blocks.0.img_mlp.2.weight": (256, 1024),
    "single_blocks.0.linear1.weight": (1792, 256),
    "single_blocks.0.norm.query_norm.scale": (64,),
    "final_layer.linear.weight": (64, 256),
}
SDXL = {
    "input_blocks.0.0.weight": (320, 4, 3, 3),
    "input_blocks.0.0.bias": (320,),
    "time_embed.0.weight": (1280, 320),
    "label_emb.0.0.weight": (1280, 2816),
    "input_blocks.1.0.in_layers.2.weight": (320, 320, 3, 3),
    "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
    "input_blocks.4.1.transformer_blocks.0.attn2.to_out.0.weight": (640, 640),
    "input_blocks.4.1.transformer_blocks.0.norm1.weight": (640,),
    "input_blocks.1.0.skip_connection.weight": (640, 320, 1, 1),
    "out.2.weight": (4, 320, 3, 3),
}
CLIP_L = {"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}


def weights(
    shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.bfloat16, seed: int = 0
) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=draw).mul_(0.05).to(dtype)
        for name, shape in shapes.items()
    }


def save(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata or None)
    return path


def flux(folder: Path, name: str = "flux.safetensors", **more: torch.dtype) -> Path:
    return save(folder / name, weights(FLUX, **more))


def sdxl_checkpoint(folder: Path, name: str = "sdxl.safetensors") -> Path:
    model = weights(SDXL, torch.float16)
    others = weights(CLIP_L, torch.float16)
    tensors = {f"model.diffusion_model.{key}": tensor for key, tensor in model.items()}
    tensors |= {f"conditioner.embedders.0.transformer.{key}": t for key, t in others.items()}
    tensors["first_stage_model.decoder.conv_in.weight"] = torch.zeros(512, 4, 3, 3)
    return save(folder / name, tensors)
