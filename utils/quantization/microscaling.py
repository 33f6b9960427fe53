"""mxfp8 and nvfp4: eight- and four-bit floats with a scale for each 32 or 16 of a row.

The arithmetic is comfy-kitchen's, which every ComfyUI that reads these formats brings. Without it the
formats are not offered. What comes out are the tensors of a layer as ComfyUI looks for them in a file.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError


class _Format(NamedTuple):
    """One format: the functions that make and read it, and how many numbers of a row share a scale."""

    quantize: str
    dequantize: str
    block: int


FORMATS = {
    "mxfp8": _Format("quantize_mxfp8", "dequantize_mxfp8", 32),
    "nvfp4": _Format("quantize_nvfp4", "dequantize_nvfp4", 16),
}
# Scales lie in tiles of so many rows and blocks: so many rows can be made without the others.
TILE_ROWS, TILE_BLOCKS = 128, 4
# The largest e4m3 scale times the largest e2m1 number: what a tensor's scale maps its largest number to.
NVFP4_LARGEST = 448.0 * 6.0


@cache
def _kitchen() -> ModuleType | None:
    if importlib.util.find_spec("comfy_kitchen") is None:
        return None
    return importlib.import_module("comfy_kitchen")


def is_offered(name: str) -> bool:
    """Tell whether a format can be made here. Imports comfy-kitchen where it is installed."""
    kitchen = _kitchen()
    return kitchen is not None and name in FORMATS and hasattr(kitchen, FORMATS[name].quantize)


def absence(name: str) -> tuple[str, str]:
    """Return what to say, and what to do, where a format is not offered."""
    return (
        f"{name} needs the package comfy-kitchen, which is not installed here or too old.",
        "Convert inside ComfyUI, which brings it; or install it (pip install comfy-kitchen); or choose "
        "another precision.",
    )


def quantize_layer(weight: Tensor, name: str, scale: float | None = None) -> dict[str, Tensor]:
    """Return the tensors that stand for a layer's weight in a file.

    Args:
        weight: Of a linear layer, [n, k], of any float dtype; all numbers are finite.
        name: "mxfp8" or "nvfp4".
        scale: The whole tensor's scale for nvfp4, where `weight` is a part of its rows: the largest
            magnitude by NVFP4_LARGEST. Worked out where it is not given.

    Returns:
        "weight" (mxfp8: e4m3 [n, k]; nvfp4: uint8 [n, k / 2]; n and k filled up with zeros to a multiple
        of 32 or 16), "weight_scale" (a scale for each block, in tiles of 128 rows and 4 blocks: e8m0
        exponents as uint8; e4m3), and for nvfp4 "weight_scale_2" (fp32, one number).

    Raises:
        InputError: The format cannot be made here, or the weight is not one of a linear layer.
    """
    kitchen = _checked(name)
    if weight.dim() != 2 or not weight.is_floating_point():
        raise InputError(
            f"Only weights of linear layers can be stored as {name}, not {weight.dtype} of shape "
            f"{list(weight.shape)}."
        )
    is_padded = any(size % FORMATS[name].block for size in weight.shape)
    if name == "mxfp8":
        data, scales = kitchen.quantize_mxfp8(weight, pad_32x=is_padded)
        return {"weight": data, "weight_scale": scales.view(torch.uint8)}
    if scale is None:
        scale = float(weight.abs().amax()) / NVFP4_LARGEST
    # Never zero: a tensor of zeros has zero blocks, whatever its scale is.
    whole = torch.full((), scale or 1.0, dtype=torch.float32, device=weight.device)
    data, scales = kitchen.quantize_nvfp4(weight, whole, pad_16x=is_padded)
    return {"weight": data, "weight_scale": scales, "weight_scale_2": whole}


def dequantize_layer(parts: Mapping[str, Tensor], name: str, shape: tuple[int, int]) -> Tensor:
    """Return the weight [n, k] that tensors of `quantize_layer` stand for, in fp32.

    Raises:
        InputError: The format is not offered here.
    """
    kitchen = _checked(name)
    if name == "mxfp8":
        scales = parts["weight_scale"].view(torch.float8_e8m0fnu)
        whole: Tensor = kitchen.dequantize_mxfp8(parts["weight"], scales, torch.float32)
    else:
        whole = kitchen.dequantize_nvfp4(
            parts["weight"], parts["weight_scale_2"], parts["weight_scale"], torch.float32
        )
    return whole[: shape[0], : shape[1]]


def _checked(name: str) -> ModuleType:
    if name not in FORMATS:
        raise InputError(
            f"There is no format '{name[:40]}'.", f"It is one of {', '.join(FORMATS)}."
        )
    kitchen = _kitchen()
    if kitchen is None or not is_offered(name):
        raise InputError(*absence(name))
    return kitchen
