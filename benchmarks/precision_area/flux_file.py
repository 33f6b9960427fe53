"""A file like a small part of Flux: its names and widths, one block of each kind, random weights in bf16."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

WIDTH, QUICK_WIDTH = 3072, 512


def make_source(folder: Path, *, quick: bool) -> Path:
    """Make the file, 0.4 GB or 10 MB large; return its path. One that was made before is left as it is."""
    width = QUICK_WIDTH if quick else WIDTH
    path = folder / f"flux_{width}.safetensors"
    if not path.exists():
        draw = torch.Generator().manual_seed(0)
        tensors = {name: _weights(shape, draw) for name, shape in _shapes(width).items()}
        save_file(tensors, path)
    return path


def _weights(shape: tuple[int, ...], draw: torch.Generator) -> torch.Tensor:
    """Normally distributed weights, in columns of different size, as trained models have them."""
    values = torch.randn(shape, generator=draw, dtype=torch.float32)
    sizes = torch.randn(shape[-1:], generator=draw).mul_(0.4).exp_()
    return values.mul_(sizes).mul_(0.02).bfloat16()


def _shapes(width: int) -> dict[str, tuple[int, ...]]:
    return {
        "img_in.weight": (width, 64),
        "img_in.bias": (width,),
        "txt_in.weight": (width, 4096),
        "vector_in.in_layer.weight": (width, 768),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
        "double_blocks.0.img_attn.qkv.weight": (3 * width, width),
        "double_blocks.0.img_attn.qkv.bias": (3 * width,),
        "double_blocks.0.img_attn.proj.weight": (width, width),
        "single_blocks.0.linear1.weight": (7 * width, width),
        "single_blocks.0.linear1.bias": (7 * width,),
        "single_blocks.0.linear2.weight": (width, 5 * width),
        "single_blocks.0.norm.query_norm.scale": (128,),
        "final_layer.linear.weight": (64, width),
    }
