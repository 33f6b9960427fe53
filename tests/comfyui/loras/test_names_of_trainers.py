"""Every name that ComfyUI knows for layers of transformers, with LoRAs of every kind: as stock loaders put them on."""

from __future__ import annotations

import random
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from ..gateway.conftest import small_transformer
from ..router_models import write
from .conftest import patched_weights, stock_chain
from .lora_kinds import LOW_RANK, OTHERS, WHOLE

PREFIXES = (
    *("lora_unet_", "diffusion_model.", "transformer.", "lycoris_", "lora_transformer_"),
    *("base_model.model.", "unet."),
)
LAYERS = 40  # of a file
# How far fast weights may be off, in parts of them: what a weight's element type tells apart.
FAST = {torch.float16: 2e-3, torch.float8_e4m3fn: 0.13}


@pytest.fixture(autouse=True)
def fresh_library(lora_folder: Any) -> None:
    from luna_collection.nodes.lora.library import cache

    cache.cache_clear()


def names_of(model: Any) -> dict[str, list[tuple[str, Any, torch.Size]]]:
    """Return by prefix what LoRAs call the weights of a model, what that is, and its shape."""
    import comfy.lora

    weights = model.model.state_dict()
    found: dict[str, list[tuple[str, Any, torch.Size]]] = {}
    for name, target in comfy.lora.model_lora_keys_unet(model.model, {}).items():
        key, part = (target, None) if isinstance(target, str) else (target[0], target[1])
        if key not in weights or not key.endswith(".weight"):
            continue
        shape = list(weights[key].shape)
        if part is not None:
            dim, start, length = part
            if start + length > shape[dim]:
                continue  # ComfyUI's table is for models of full size
            shape[dim] = length
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
        found.setdefault(prefix, []).append((name, target, torch.Size(shape)))
    return found


def lora_of(layers: list[tuple[str, Any, torch.Size]], seed: int) -> dict[str, torch.Tensor]:
    """Return a LoRA for some of the layers, of another kind for each."""
    dice = random.Random(seed)
    chosen = dice.sample(layers, min(LAYERS, len(layers)))
    weights = {}
    kinds = {part: cycle(of) for part, of in (("all", LOW_RANK + OTHERS + WHOLE), ("flat", WHOLE))}
    parts = cycle(LOW_RANK + OTHERS)
    for number, (name, target, shape) in enumerate(chosen):
        of = parts if not isinstance(target, str) else kinds["all" if len(shape) > 1 else "flat"]
        weights |= next(of)(name, shape, 100 * seed + number)
    return {name: tensor.contiguous().clone() for name, tensor in weights.items()}


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.float(), other.float())


@pytest.mark.parametrize("dtype", FAST, ids=str)
@pytest.mark.parametrize("family", ["flux", "sd3", "qwen", "wan", "z-image"])
def test_three_of_them_are_a_chain_of_stock_loaders(lora_folder: Path, family: str, dtype: Any):
    import folder_paths
    from luna_collection.nodes.lora.transient import with_loras
    from luna_collection.utils.loras.stack import LoraEntry

    with torch.inference_mode(False):
        model = small_transformer(family)
        for weight in model.model.parameters():
            if weight.dim() > 1 or dtype.itemsize > 1:
                weight.data = weight.data.to(dtype)
    plain = patched_weights(model)
    for prefix, layers in names_of(model).items():
        entries = []
        for number, strength in enumerate((0.8, -0.6, 11.0)):
            name = f"{family}/{prefix.strip('._')} {number}.safetensors"
            write(lora_folder, name, lora_of(layers, number + 1))
            entries.append(LoraEntry(name, strength, 0.5))
        folder_paths.filename_list_cache.pop("loras", None)
        chain = [(entry.name, entry.model_strength, 0.5) for entry in entries]
        wanted = patched_weights(stock_chain(model, None, chain)[0])
        assert any(not same(wanted[key], plain[key]) for key in plain)
        exact, fast = (
            patched_weights(with_loras(model, None, entries, fast=fast).model)
            for fast in (False, True)
        )
        assert [key for key in wanted if not same(exact[key], wanted[key])] == [], prefix
        for key, weight in wanted.items():
            near = {"rtol": FAST[dtype], "atol": FAST[dtype] / 10}
            assert torch.allclose(fast[key].float(), weight.float(), **near), (prefix, key)
    assert all(same(weight, plain[key]) for key, weight in patched_weights(model).items())
