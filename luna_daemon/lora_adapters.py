"""ComfyUI's LoRA, with the arithmetic of utils/loras/merge_math.py.

A model patcher lets each of its patches change a copy of the weight, one after the other; these adapters
take that turn, so nothing of ComfyUI is replaced. They are for both places where weights are patched: the
daemon's worker, and ComfyUI's own process. Whatever they are not made for (another device, Tucker
weights, DoRA, reshaped weights, element types that differ) ComfyUI's own method does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy.weight_adapter.lora import LoRAAdapter

from ..utils.loras.merge_math import Term, Workspace, add_exact, add_fast, can_add_fast
from ..utils.loras.whole_merge import Addend, can_merge, joined, merged

# How the adapters are called in a patch set; a plain LoRA of ComfyUI is an exact one.
EXACT_LORA, FAST_LORA = LoRAAdapter.name, "lora_fast"
WORKSPACE = Workspace()  # of this process; whoever loads patches frees it afterwards
# up, down, alpha, Tucker weights, DoRA scale, shape: the fields of ComfyUI's adapter.
_FIELDS = 6


class ExactLora(LoRAAdapter):
    """Gives ComfyUI's weights bit for bit, with less memory traffic."""

    def calculate_weight(  # noqa: PLR0913  (ComfyUI calls it so)
        self,
        weight: torch.Tensor,
        key: str,
        strength: float,
        strength_model: float,
        offset: Any,
        function: Callable[[torch.Tensor], torch.Tensor],
        intermediate_dtype: torch.dtype = torch.float32,
        original_weight: Any = None,
    ) -> torch.Tensor:
        """Add the LoRA to a copy of the weight, in place."""
        term = _term(self.weights, weight, strength, intermediate_dtype)
        if term is None:
            changed: torch.Tensor = super().calculate_weight(
                weight,
                key,
                strength,
                strength_model,
                offset,
                function,
                intermediate_dtype,
                original_weight,
            )
            return changed
        self._add(weight, term, function)
        return weight

    def _add(self, weight: torch.Tensor, term: Term, function: Callable[..., Any]) -> None:
        add_exact(weight, term, WORKSPACE, None if _is_nothing(function) else function)


class FastLora(ExactLora):
    """Rounds less often than ComfyUI does: its weights differ from ComfyUI's in the last digit."""

    def _add(self, weight: torch.Tensor, term: Term, function: Callable[..., Any]) -> None:
        if _is_nothing(function) and can_add_fast(weight, term):
            add_fast(weight, term)
        else:
            super()._add(weight, term, function)


def merged_at_once(weight: torch.Tensor, patches: Sequence[Any]) -> torch.Tensor | None:
    """Return a weight with all its patches, as ComfyUI's patcher would make it step by step.

    Args:
        weight: On the CPU, with no conversion of its own.
        patches: As they stand in a patcher: (strength, adapter, strength of the model, offset, function).

    Returns:
        None when one of them is more than a plain LoRA of ours, or the weight is none that this is made for.
    """
    addends = _addends(weight, patches)
    return merged(weight, addends, WORKSPACE) if can_merge(weight, addends) else None


def joined_when_fast(weight: torch.Tensor, patches: Sequence[Any]) -> Term | None:
    """Return all that a weight's patches add to it; None when not all may be added in the fast way."""
    addends = _addends(weight, patches)
    if not can_merge(weight, addends) or not all(fast for _, fast in addends):
        return None
    return joined([term for term, _ in addends])


def _addends(weight: torch.Tensor, patches: Sequence[Any]) -> list[Addend]:
    """Return what plain LoRAs of ours add to a weight; nothing when a patch is more than that."""
    addends: list[Addend] = []
    for strength, adapter, strength_model, offset, function in patches:
        if not isinstance(adapter, ExactLora) or strength_model != 1.0:
            return []
        if offset is not None or function is not None:
            return []
        term = _term(adapter.weights, weight, strength, torch.float32)
        if term is None:
            return []
        addends.append(Addend(term, isinstance(adapter, FastLora)))
    return addends


def _term(weights: Any, weight: torch.Tensor, strength: float, dtype: torch.dtype) -> Term | None:
    """Return what a plain LoRA adds; None when it is no plain one, or the weight is no plain one."""
    if len(weights) != _FIELDS or any(part is not None for part in weights[3:]):
        return None
    up, down, alpha = weights[:3]
    if not all(_is_plain(tensor) for tensor in (weight, up, down)) or min(up.dim(), down.dim()) < 2:
        return None
    if not isinstance(strength, (int, float)) or not isinstance(alpha, (int, float, type(None))):
        return None
    up, down = (matrix.to(dtype).flatten(start_dim=1) for matrix in (up, down))  # all on the CPU
    scale = strength * (1.0 if alpha is None else alpha / down.shape[0])
    term = Term(up, down, scale)
    return term if term.fits(weight) else None


def _is_plain(tensor: Any) -> bool:
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"


def _is_nothing(function: Callable[..., Any]) -> bool:
    """Is this what ComfyUI puts in place of no function?"""
    return (
        function.__module__ == "comfy.lora"
        and function.__qualname__ == "calculate_weight.<locals>.<lambda>"
    )
