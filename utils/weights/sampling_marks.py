"""Tensors beside a checkpoint's models that say how its diffusion model was trained.

ComfyUI samples a model otherwise when it finds one of these: v-prediction, noise up to zero signal, other noise
levels. Some have no elements; that they are there is what they say. Source: comfy/supported_models.py, SDXL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MARKS = frozenset(
    ("v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")
)
# GGUF has no tensors without elements: there such a mark is a number among the metadata.
_GGUF_KEY = "luna.sampling."


def gguf_values(marks: Iterable[str]) -> dict[str, int]:
    """Return the metadata of a GGUF file that stand for marks without elements."""
    return {f"{_GGUF_KEY}{mark}": 1 for mark in marks}


def marks_in(metadata: Mapping[str, Any]) -> list[str]:
    """Return the marks that a GGUF file's metadata stand for."""
    names = (key.removeprefix(_GGUF_KEY) for key in metadata if key.startswith(_GGUF_KEY))
    return [name for name in names if name in MARKS]
