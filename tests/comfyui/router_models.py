"""Small files that ComfyUI takes for real models: those of the demonstration."""

from luna_collection.luna_daemon.demo.comfyui.models import (
    LORA_NAME,
    make_ip_adapter,
    make_lora,
    make_sd15,
    make_sdxl,
    taesd,
    write,
)

__all__ = [
    "LORA_NAME",
    "make_ip_adapter",
    "make_lora",
    "make_sd15",
    "make_sdxl",
    "taesd",
    "write",
]
