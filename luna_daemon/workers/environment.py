"""The environment variables of a worker process. They must be there before its first import."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def worker_environment(device: str, threads: int, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a worker on `device`.

    Args:
        device: cpu, mps or cuda:N, N counted as this process sees the GPUs.
        threads: CPU threads; 0 takes all cores.
        base: This process's environment. What the user has set there for threads and allocation stays.
    """
    env = dict(base)
    env["CUDA_VISIBLE_DEVICES"] = _visible_gpu(device, base.get("CUDA_VISIBLE_DEVICES"))
    if threads:
        env["OMP_NUM_THREADS"] = str(threads)
    env.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    # Threads that spin while they wait make everything ten times slower when cores are shared.
    env.setdefault("OMP_WAIT_POLICY", "passive")
    env.setdefault("KMP_BLOCKTIME", "0")
    if sys.platform.startswith("linux"):
        # glibc gives big blocks back after each operation, and the next one faults all pages in again.
        env.setdefault("MALLOC_MMAP_THRESHOLD_", str(4 * 2**30))
        env.setdefault("MALLOC_TRIM_THRESHOLD_", str(8 * 2**30))
        env.setdefault("MALLOC_TOP_PAD_", str(64 * 2**20))
    env["HF_HUB_OFFLINE"] = "1"  # a worker reads local files and never the network
    env["PYTHONUNBUFFERED"] = "1"
    return env


def device_inside(device: str) -> str:
    """Return what torch calls the device inside the worker, which sees one GPU only."""
    return "cuda:0" if device.startswith("cuda") else device


def _visible_gpu(device: str, visible: str | None) -> str:
    if not device.startswith("cuda"):
        return ""
    index = int(device.partition(":")[2] or 0)
    if visible is None:
        return str(index)
    listed = [name.strip() for name in visible.split(",") if name.strip()]
    # Behind the end of the user's list there is no GPU for us, whatever the machine has.
    return listed[index] if index < len(listed) else ""
