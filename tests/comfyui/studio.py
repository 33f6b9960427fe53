"""Two ComfyUI servers and the one daemon that they share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from luna_command.comfyui import ComfyUI

from .comfy_server import ComfyServer, install_pack
from .engine.random_weights import text_lora
from .router_models import make_lora, make_sd15, write
from .workflows import SD15

Prompt = dict[str, Any]
DIGESTS = Path(__file__).with_name("digest_node.py")
LINKED = "on another disk/Modell für 模型.safetensors"  # the folder is a link
LORAS = {"one.safetensors": 31, "two.safetensors": 32}  # with the seeds of their weights


class Studio:
    """Two servers with the same models, and the place of their daemon."""

    def __init__(self, comfyui: ComfyUI, root: Path, folder: Path) -> None:
        self.run = folder / "run"
        models = folder / "models"
        make_sd15(models)
        make_lora(models)
        for name, seed in LORAS.items():
            write(models, f"loras/{name}", text_lora(seed, layers=1))
        linked, disk = models / "checkpoints" / LINKED, folder / "another disk"
        disk.mkdir()
        linked.parent.symlink_to(disk, target_is_directory=True)
        os.link(models / "checkpoints" / SD15, linked)
        bases = [folder / "a", folder / "b"]
        for base in bases:
            install_pack(root, base)
            shutil.copy(DIGESTS, base / "custom_nodes")
            (base / "models").symlink_to(models, target_is_directory=True)
        environ = {"LUNA_RUNTIME_DIR": str(self.run), "LUNA_PORT": "0"}
        with ThreadPoolExecutor() as pool:
            boots = [pool.submit(ComfyServer, comfyui, base, environ) for base in bases]
        self.servers = [boot.result() for boot in boots]

    @property
    def daemon(self) -> psutil.Process | None:
        """The daemon's process, if it runs."""
        record = self.run / "daemon-0.json"
        if not record.is_file():
            return None
        pid = json.loads(record.read_bytes())["pid"]
        return psutil.Process(pid) if psutil.pid_exists(pid) else None

    def kill_daemon(self) -> None:
        """Kill the daemon where it stands; its workers notice."""
        daemon = self.daemon
        assert daemon is not None
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait(20)

    def close(self) -> None:
        """End everything."""
        for server in self.servers:
            server.stop()
        daemon = self.daemon
        if daemon is not None:
            daemon.terminate()
            daemon.wait(60)

    def workers(self) -> list[dict[str, Any]]:
        """Return what the daemon says of its workers; nothing while it does not run."""
        answer = self.servers[0].get("/luna/daemon/status")
        devices = answer["status"]["devices"].values() if answer["running"] else ()
        return [worker for device in devices for worker in device["workers"]]

    def wait_for(self, state: str) -> None:
        """Return when a worker is in this state."""
        deadline = time.monotonic() + 60
        while all(worker["state"] != state for worker in self.workers()):
            assert time.monotonic() < deadline, f"no worker became {state}"
            time.sleep(0.02)
