"""Which NVIDIA GPUs this process may use, and how much memory they have. Opens no CUDA context."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..utils.log import get_logger

log = get_logger("daemon")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver lists it."""

    uuid: str
    nbytes: int


def gpu_memory(env: Mapping[str, str] | None = None) -> list[int]:
    """Return the memory in bytes of each GPU that CUDA_VISIBLE_DEVICES lets us see; [] without one."""
    env = os.environ if env is None else env
    return [gpu.nbytes for gpu in visible_gpus(_all_gpus(), env.get("CUDA_VISIBLE_DEVICES"))]


def visible_gpus(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """Return the GPUs that CUDA shows, in its order.

    `visible` lists numbers or the beginnings of UUIDs; at the first that names no GPU the list ends (CUDA
    programming guide, environment variables). None shows all.
    """
    if visible is None:
        return list(gpus)
    found: list[Gpu] = []
    for name in visible.split(","):
        gpu = _named(gpus, name.strip())
        if gpu is None:
            break
        found.append(gpu)
    return found


def _named(gpus: Sequence[Gpu], name: str) -> Gpu | None:
    if name.isdecimal():
        return gpus[int(name)] if int(name) < len(gpus) else None
    matching = [gpu for gpu in gpus if name.startswith("GPU-") and gpu.uuid.startswith(name)]
    return matching[0] if len(matching) == 1 else None


def _all_gpus() -> list[Gpu]:
    try:
        import pynvml
    except ImportError:
        log.debug("nvidia-ml-py is not installed, so no NVIDIA GPU is looked for")
        return []
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [
            Gpu(
                str(pynvml.nvmlDeviceGetUUID(handle)),
                int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            )
            for handle in handles
        ]
    except pynvml.NVMLError as error:
        log.debug("no NVIDIA GPU: %s", error)
        return []
