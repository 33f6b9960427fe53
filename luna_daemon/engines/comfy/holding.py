"""Text encoders whose weights are held in fp32: an option, for a CPU that has the memory.

On the CPU ComfyUI computes text encoders in fp32 and converts each weight before each use. Here that is
done once. Converting is exact, so a plain encode stays the same bit for bit. A patch set does not: ComfyUI
rounds a patched weight to the type that it holds it in.
"""

from __future__ import annotations

from typing import Any

import comfy.ops
import torch


def hold_in_fp32(patcher: Any) -> None:
    """Convert every weight of a patcher's model that ComfyUI would convert before each use."""
    converted: dict[int, torch.nn.Parameter] = {}  # tied weights stay tied
    for module in patcher.model.modules():
        if not isinstance(module, comfy.ops.CastWeightBiasOp):
            continue
        for name, weight in module._parameters.items():
            if weight is None or not _is_narrow(weight):
                continue
            if id(weight) not in converted:
                wide = weight.detach().to(torch.float32)
                converted[id(weight)] = torch.nn.Parameter(wide, requires_grad=False)
            module._parameters[name] = converted[id(weight)]
    patcher.size = 0  # ComfyUI had counted the bytes


def _is_narrow(weight: torch.nn.Parameter) -> bool:
    # A quantised weight has a class of its own, and operations that need no fp32.
    plain = type(weight.data) is torch.Tensor
    return plain and weight.is_floating_point() and weight.element_size() < torch.float32.itemsize
