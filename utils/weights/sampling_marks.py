"""Tensors in or beside a diffusion model that say how it was trained.

ComfyUI samples a model otherwise when it finds one of these: v-prediction, noise up to zero signal, other noise
levels; the last three are in the model itself. Some have no elements; that they are there is what they say.
Sources: comfy/supported_models.py, SDXL; comfy/model_detection.py, Chroma Radiance and Qwen-Image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MARKS = frozenset(
    (
        *("v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min"),
        *("__x0__", "__sequential__", "__index_timestep_zero__"),
    )
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
