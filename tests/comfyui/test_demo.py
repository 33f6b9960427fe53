"""The demonstration with ComfyUI, as its command, from the start of the servers to the figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from .comfy_server import BOOT_TIMEOUT_S

pytestmark = pytest.mark.timeout(4 * BOOT_TIMEOUT_S)


@pytest.fixture
def command(comfyui, root: Path) -> list[str]:
    pytest.importorskip("rich")  # the command's; a ComfyUI need not have it
    launcher = root / "luna_daemon" / "daemon_server.py"
    return [sys.executable, str(launcher), "demo", "--comfyui", str(comfyui.root), "--rounds=1"]


def surroundings(comfyui, folder: Path) -> dict[str, str]:
    return {**os.environ, "COMFYUI_PYTHON": str(comfyui.python), "TMPDIR": str(folder)}


def test_every_image_is_what_comfyui_draws_alone(comfyui, command, tmp_path):
    file = tmp_path / "figures.json"
    ran = subprocess.run(
        [*command, f"--json={file}"],
        capture_output=True,
        text=True,
        check=False,
        env=surroundings(comfyui, tmp_path),
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(file.read_text("utf-8"))
    assert (found["identical"], found["different"], found["images"]) == (True, [], 12)
    assert found["models_if_unshared"] == 2 * found["models_loaded"] > 0
    assert set(found["processes_mb"]) == {"server 1", "server 2", "daemon and workers"}
    assert found["memory_mb"] > 0 < found["memory_if_unshared_mb"]
    assert found["requests"] >= found["images"]
    assert found["transport"] in ("memfd", "named", "inline")
    assert nothing_left(tmp_path)


@pytest.mark.skipif(
    psutil.virtual_memory().available < 10 * 2**30, reason="needs 10 GB of free memory"
)
def test_text_encoders_of_real_size_show_what_is_saved(comfyui, command, tmp_path):
    file = tmp_path / "figures.json"
    ran = subprocess.run(
        [*command, "--family=sdxl", f"--json={file}"],
        capture_output=True,
        text=True,
        check=False,
        env=surroundings(comfyui, tmp_path),
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(file.read_text("utf-8"))
    assert (found["identical"], found["images"]) == (True, 6)
    assert found["memory_mb"] < found["memory_if_unshared_mb"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
def test_an_interrupted_one_leaves_nothing(comfyui, command, tmp_path):
    demo = subprocess.Popen(command, env=surroundings(comfyui, tmp_path))
    try:
        while not list(tmp_path.glob("luna-demo-*/server-*.log")):
            assert demo.poll() is None, "it ended before its servers were started"
            time.sleep(0.05)
        demo.send_signal(signal.SIGINT)
        time.sleep(0.3)
        demo.send_signal(signal.SIGTERM)  # the impatient, or `timeout`, send two
        assert demo.wait(60) == 130
    finally:
        demo.kill()
    assert nothing_left(tmp_path)


def nothing_left(folder: Path) -> bool:
    """Is there neither a file of the demonstration nor a process that works there?"""
    processes = [p.info for p in psutil.process_iter(["cmdline"])]
    place = str(folder / "luna-demo-")
    busy = [info for info in processes if any(place in word for word in info["cmdline"] or ())]
    return busy == [] and list(folder.glob("luna-demo-*")) == []
