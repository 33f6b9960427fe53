"""Quantisers against the gguf package and ggml, and conversion of whole files against copying them."""

from __future__ import annotations

import importlib.util

from ..entries import Measurement

MEASUREMENTS = (
    Measurement("quantising", "quantising", "measure_quantising"),
    Measurement("quality of K types", "quantising", "measure_quality"),
    Measurement("ggml's library", "quantising", "measure_library"),
    Measurement("dequantising", "quantising", "measure_dequantising"),
    Measurement("converting", "converting", "measure_speed"),
    Measurement("loading again", "converting", "measure_again"),
    Measurement("sizes, loading and errors", "converting", "measure_files"),
)


def why_not() -> str:
    """Return why nothing of this area can be measured here; "" when it can."""
    # Nothing here loads torch, which takes its number of threads from the environment that is set later.
    if any(importlib.util.find_spec(package) is None for package in ("gguf", "libggml")):
        return "gguf or libggml-python is not installed: pip install -e .[dev]"
    return ""
