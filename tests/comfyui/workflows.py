"""Workflows in API form that draw with a loader: those of the demonstration, and what only tests need."""

from __future__ import annotations

from typing import Any

from luna_collection.luna_daemon.demo.comfyui.workflows import (
    SD15,
    STOCK,
    drawing,
    pixels,
    router,
    with_lora,
)

__all__ = ["OUTPUTS", "SD15", "STOCK", "drawing", "pixels", "router", "showing", "with_lora"]
OUTPUTS = ("model", "clip", "vae", "llm", "clip_vision", "ip_adapter", "model_name", "status")


def showing(prompt: dict[str, Any], output: str) -> dict[str, Any]:
    """Show one of the router's outputs as text in node 9."""
    source = ["1", OUTPUTS.index(output)]
    return {**prompt, "9": {"class_type": "PreviewAny", "inputs": {"source": source}}}
