"""The daemon's progress in ComfyUI's own progress bar."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.utils

from ..client import DaemonClient
from ..config import DaemonConfig


def progress_bar() -> Callable[[int, int], None]:
    """Return what a call tells its progress to; the bar appears with the first step."""
    bars: dict[int, comfy.utils.ProgressBar] = {}

    def show(done: int, total: int) -> None:
        if total not in bars:
            bars[total] = comfy.utils.ProgressBar(total)
        bars[total].update_absolute(done, total)

    return show


def comfyui_client(
    config: DaemonConfig | None = None, on_note: Callable[[str], None] | None = None
) -> DaemonClient:
    """Return a client whose waits end with ComfyUI's Cancel button, and not because work takes long."""
    return DaemonClient(
        config=config,
        interrupt=comfy.model_management.throw_exception_if_processing_interrupted,
        on_note=on_note,
        patient=True,
    )
