"""LoRAs of every kind for one layer, with random numbers: a layer's name and its weight's shape → tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch

Weights = dict[str, torch.Tensor]
Kind = Callable[[str, torch.Size, int], Weights]
RANK = 4


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1).half()


def _named(up: str, down: str, alpha: torch.Tensor | None = None) -> Kind:
    def make(name: str, shape: torch.Size, seed: int) -> Weights:
        kernel = (1,) * (len(shape) - 2)
        weights = {
            f"{name}{up}": numbers(shape[0], RANK, *kernel, seed=seed),
            f"{name}{down}": numbers(RANK, *shape[1:], seed=seed + 1),
        }
        return weights if alpha is None else {**weights, f"{name}.alpha": alpha}

    return make


kohya = _named(".lora_up.weight", ".lora_down.weight", torch.tensor(2.0, dtype=torch.float16))
peft = _named(".lora_B.weight", ".lora_A.weight")
peft_default = _named(".lora_B.default.weight", ".lora_A.default.weight", torch.tensor(3))
diffusers = _named("_lora.up.weight", "_lora.down.weight")
diffusers_layers = _named(".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight")


def dora(name: str, shape: torch.Size, seed: int) -> Weights:
    scale = numbers(shape[0], *(1,) * (len(shape) - 1), seed=seed).abs() + 1
    return {**kohya(name, shape, seed), f"{name}.dora_scale": scale}


def loha(name: str, shape: torch.Size, seed: int) -> Weights:
    columns = shape[1:].numel()
    sizes = {"w1_a": (shape[0], RANK), "w1_b": (RANK, columns)}
    sizes |= {"w2_a": (shape[0], RANK), "w2_b": (RANK, columns)}
    return {
        f"{name}.hada_{end}": numbers(*size, seed=seed + i)
        for i, (end, size) in enumerate(sizes.items())
    }


def lokr(name: str, shape: torch.Size, seed: int) -> Weights:
    rows, columns = _factor(shape[0]), _factor(shape[1])
    return {
        f"{name}.lokr_w1": numbers(rows, columns, seed=seed),
        f"{name}.lokr_w2": numbers(
            shape[0] // rows, shape[1] // columns, *shape[2:], seed=seed + 1
        ),
        f"{name}.alpha": torch.tensor(1e10),  # means nothing here, and trainers write it
    }


def lokr_in_parts(name: str, shape: torch.Size, seed: int) -> Weights:
    rows, columns = _factor(shape[0]), _factor(shape[1])
    rest = shape[1:].numel() // columns
    sizes = {"w1_a": (rows, RANK), "w1_b": (RANK, columns)}
    sizes |= {"w2_a": (shape[0] // rows, RANK), "w2_b": (RANK, rest)}
    parts = {
        f"{name}.lokr_{end}": numbers(*size, seed=seed + i)
        for i, (end, size) in enumerate(sizes.items())
    }
    return {**parts, f"{name}.alpha": torch.tensor(2.0)}


def glora(name: str, shape: torch.Size, seed: int) -> Weights:
    if len(shape) != 2:
        return kohya(name, shape, seed)
    sizes = {"a1": (RANK, shape[1]), "a2": (shape[1], RANK)}
    sizes |= {"b1": (RANK, shape[1]), "b2": (shape[0], RANK)}
    return {
        f"{name}.{end}.weight": numbers(*size, seed=seed + i)
        for i, (end, size) in enumerate(sizes.items())
    }


def oft(name: str, shape: torch.Size, seed: int) -> Weights:
    blocks = _factor(shape[0])
    size = shape[0] // blocks
    return {
        f"{name}.oft_blocks": numbers(blocks, size, size, seed=seed),
        f"{name}.alpha": torch.tensor(0.01),
    }


def boft(name: str, shape: torch.Size, seed: int) -> Weights:
    if len(shape) != 2 or shape[0] % 8:
        return kohya(name, shape, seed)
    return {
        f"{name}.oft_blocks": numbers(2, shape[0] // 4, 4, 4, seed=seed),
        f"{name}.rescale": numbers(shape[0], 1, seed=seed) + 1,
        f"{name}.alpha": torch.tensor(0.01),
    }


def difference(name: str, shape: torch.Size, seed: int) -> Weights:
    return {f"{name}.diff": numbers(*shape, seed=seed)}


def replacement(name: str, shape: torch.Size, seed: int) -> Weights:
    return {f"{name}.set_weight": numbers(*shape, seed=seed)}


def _factor(side: int) -> int:
    return next(factor for factor in (8, 4, 2, 1) if side % factor == 0)


LOW_RANK: tuple[Kind, ...] = (kohya, peft, peft_default, diffusers, diffusers_layers)
OTHERS: tuple[Kind, ...] = (dora, loha, lokr, lokr_in_parts, glora, oft, boft)
WHOLE: tuple[Kind, ...] = (difference, replacement)
