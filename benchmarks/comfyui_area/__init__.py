"""A real ComfyUI with its models in the daemon, against the same ComfyUI with models of its own."""

from __future__ import annotations

from ..entries import Measurement
from .installed import why_none

MEASUREMENTS = (
    Measurement("encode", "calls", "measure_encode"),
    Measurement("encode in fp32", "calls", "measure_encode_fp32"),
    Measurement("decode", "calls", "measure_decode"),
    Measurement("skeleton", "skeleton", "measure_skeleton"),
    Measurement("tamper check", "skeleton", "measure_tamper_check"),
    Measurement("loading in the worker", "loading"),
    Measurement("memory with SD1.5", "memory", "measure_sd15"),
    Measurement("memory with SDXL's encoders", "memory", "measure_sdxl"),
)


def why_not() -> str:
    """Return why nothing of this area can be measured here; "" when it can."""
    return why_none()
