"""LoRAs with ever new strengths, in the daemon and in ComfyUI's process, against stock ComfyUI."""

from __future__ import annotations

from ..comfyui_area.installed import why_none
from ..entries import Measurement

MEASUREMENTS = (
    Measurement("the same set again", "text", "measure_same_set"),
    Measurement("new strengths", "text", "measure_new_strengths"),
    Measurement("memory of LoRAs", "text", "measure_memory"),
    Measurement("new strengths of a U-Net", "unet"),
)


def why_not() -> str:
    """Return why nothing of this area can be measured here; "" when it can."""
    return why_none()
