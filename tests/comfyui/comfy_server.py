"""A real ComfyUI, headless, driven over HTTP: the one that the demonstration uses."""

from luna_collection.luna_daemon.demo.comfyui.server import (
    BOOT_TIMEOUT_S,
    FOLDER,
    ComfyServer,
    RunFailedError,
    install_pack,
)

__all__ = ["BOOT_TIMEOUT_S", "FOLDER", "ComfyServer", "RunFailedError", "install_pack"]
