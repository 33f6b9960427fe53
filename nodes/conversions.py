"""Models under a node in another precision: which there are here, and the file in one of them."""

from __future__ import annotations

import importlib
from pathlib import Path

from ..utils.conversion.gguf_recipes import is_made_here
from ..utils.conversion.targets import GGUF, TARGETS, Target
from ..utils.conversion.use import Used, in_precision
from ..utils.log import get_logger
from ..utils.quantization.microscaling import FORMATS, is_offered
from .precision.model_places import model_folder, watched

log = get_logger("nodes")
MODEL_LIST = "diffusion_models"
# Formats that ComfyUI has to know, by the target that needs them; the others it has always read.
_FORMAT_OF_TARGET = {
    "fp8_e4m3fn_scaled": "float8_e4m3fn",
    "mxfp8": "mxfp8",
    "nvfp4": "nvfp4",
}


def usable_targets() -> list[Target]:
    """Return the precisions that can be made here, and that this ComfyUI can load."""
    formats = _formats()
    return [target for target in TARGETS.values() if _is_usable(target, formats)]


def convert(source: Path, precision: str, folder: Path | None = None) -> Used:
    """Return a model's file in a precision, as `in_precision` does, while the node's progress bar moves.

    Raises:
        InterruptProcessingException: The person has cancelled the run.
        LunaError: As `in_precision`.
    """
    with watched() as run:
        used = in_precision(source, precision, folder or model_folder(""), run)
    log.info("[Luna] %s", used.note)
    return used


def _is_usable(target: Target, formats: set[str]) -> bool:
    if target.container == GGUF:
        return is_made_here(target.name)
    if target.name in FORMATS and not is_offered(target.name):
        return False
    return target.name not in _FORMAT_OF_TARGET or _FORMAT_OF_TARGET[target.name] in formats


def _formats() -> set[str]:
    """Return the formats of quantised layers that this ComfyUI knows; a release without any knows none."""
    try:
        return set(importlib.import_module("comfy.quant_ops").QUANT_ALGOS)
    except (ImportError, AttributeError):
        return set()
