"""A real ComfyUI, headless, on a port of its own, driven over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from luna_command.comfyui import ComfyUI

BOOT_TIMEOUT_S = 240
RUN_TIMEOUT_S = 200
FOLDER = "luna-collection"


def install_pack(root: Path, base: Path) -> None:
    """Put the pack where a user has it: linked, or copied where links are not possible."""
    target = base / "custom_nodes" / FOLDER
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(root, target_is_directory=True)
    except OSError:
        shutil.copytree(root, target, ignore=shutil.ignore_patterns(".git", ".venv", ".luna"))


class RunFailedError(Exception):
    """A prompt was refused or a node raised; `details` is what ComfyUI says."""

    def __init__(self, details: Any) -> None:
        super().__init__(json.dumps(details, indent=1)[:4000])
        self.details = details


class ComfyServer:
    """One server process.

    Args:
        comfyui: Which ComfyUI.
        base: Its base folder, with `models` and `custom_nodes`.
        environ: Further environment variables.
    """

    def __init__(self, comfyui: ComfyUI, base: Path, environ: dict[str, str] | None = None) -> None:
        self.base = base
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = base / f"server-{self.port}.log"
        command = [str(comfyui.python), str(comfyui.root / "main.py"), "--cpu"]
        command += ["--port", str(self.port), "--base-directory", str(base)]
        command += ["--disable-auto-launch", "--disable-api-nodes"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=comfyui.root,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_ready()

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Return the JSON of a POST; raises urllib's HTTPError."""
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body or {}).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read() or b"null")

    def run(self, prompt: dict[str, Any], workflow: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run a prompt to its end and return the outputs of its nodes.

        Raises:
            RunFailedError: It was refused or a node raised.
        """
        body: dict[str, Any] = {"prompt": prompt, "client_id": uuid.uuid4().hex}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        try:
            prompt_id = self.post("/prompt", body)["prompt_id"]
        except urllib.error.HTTPError as error:
            with error:
                raise RunFailedError(json.loads(error.read())) from error
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                return _outputs(entry)
            time.sleep(0.1)
        raise RunFailedError(f"no end within {RUN_TIMEOUT_S} s; {self.tail()}")

    def texts(self, prompt: dict[str, Any], node: str) -> list[str]:
        """Run a prompt and return what its node PreviewAny shows."""
        return list(self.run(prompt)[node]["text"])

    def image(self, prompt: dict[str, Any]) -> bytes:
        """Run a prompt and return the bytes of the one image that it saves."""
        images = [
            image for output in self.run(prompt).values() for image in output.get("images", ())
        ]
        assert len(images) == 1, images
        folder = self.base / images[0]["type"] / images[0]["subfolder"]
        return (folder / images[0]["filename"]).read_bytes()

    def tail(self, lines: int = 40) -> str:
        """Return the end of the server's log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended at its start:\n{self.tail()}")
            try:
                self.get("/system_stats")
            except OSError:
                time.sleep(0.2)
            else:
                return
        self.stop()
        raise RuntimeError(f"ComfyUI did not start within {BOOT_TIMEOUT_S} s:\n{self.tail()}")


def _outputs(entry: dict[str, Any]) -> dict[str, Any]:
    status = entry["status"]
    if status["status_str"] != "success":
        errors = [data for kind, data in status["messages"] if kind == "execution_error"]
        raise RunFailedError(errors or status)
    outputs: dict[str, Any] = entry["outputs"]
    return outputs


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
