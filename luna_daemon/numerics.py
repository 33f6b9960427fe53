"""The settings of a ComfyUI that decide about values, so that client and worker can agree on them.

A client tells those of its ComfyUI; the worker's ComfyUI takes them over before it chooses element types
and attention. Only what is set is told: releases that lack a flag agree with those where it is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSIONS = ("comfyui", "torch")
FAST = "fast"
# Attributes of comfy.cli_args.args that are on or off.
FLAGS = (
    "force_fp32",
    "force_fp16",
    "fp16_vae",
    "fp32_vae",
    "bf16_vae",
    "cpu_vae",
    "fp8_e4m3fn_text_enc",
    "fp8_e5m2_text_enc",
    "fp16_text_enc",
    "fp32_text_enc",
    "bf16_text_enc",
    "fp16_intermediates",
    "force_channels_last",
    "supports_fp8_compute",
    "enable_triton_backend",
    "use_split_cross_attention",
    "use_quad_cross_attention",
    "use_pytorch_cross_attention",
    "use_sage_attention",
    "use_flash_attention",
    "disable_xformers",
    "force_upcast_attention",
    "dont_upcast_attention",
    "deterministic",
)
_ON = "on"


def numerics_of(args: Any, *, comfyui: str, torch: str) -> dict[str, str]:
    """Return the settings of a ComfyUI.

    Args:
        args: Its `comfy.cli_args.args`.
        comfyui: Its version.
        torch: The version of its torch.
    """
    found = {"comfyui": comfyui, "torch": torch}
    found.update({flag: _ON for flag in FLAGS if getattr(args, flag, False)})
    fast = getattr(args, FAST, None)
    if fast:
        found[FAST] = ",".join(sorted(str(feature.value) for feature in fast))
    return found


def unknown_settings(numerics: Mapping[str, str]) -> list[str]:
    """Return the names that a worker would not know how to take over."""
    return sorted(numerics.keys() - {*VERSIONS, *FLAGS, FAST})


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """Return what differs, each as a few words: "torch 2.9.1 instead of 2.10.0"."""
    return [
        f"{name} {theirs.get(name, 'off')} instead of {ours.get(name, 'off')}"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]
