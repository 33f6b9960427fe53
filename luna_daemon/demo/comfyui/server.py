"""A real ComfyUI, headless, on a port of its own, driven over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...errors import InternalError

BOOT_TIMEOUT_S = 240
RUN_TIMEOUT_S = 200
FOLDER = "luna-collection"
_POLL_S = 0.1
_DETAILS = 4000  # characters
# The server is on this machine: a proxy that the environment names has nothing to do with it.
_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Installation(Protocol):
    """Where a ComfyUI is, and the Python that runs it."""

    @property
    def root(self) -> Path:
        """Its folder."""

    @property
    def python(self) -> Path:
        """Its interpreter."""


class RunFailedError(InternalError):
    """A prompt was refused or a node raised; `details` is what ComfyUI says."""

    def __init__(self, details: Any) -> None:
        super().__init__(
            f"ComfyUI could not run a workflow: {json.dumps(details, indent=1)[:_DETAILS]}"
        )
        self.details = details


def install_pack(root: Path, base: Path) -> None:
    """Put the pack where a user has it: linked, or copied where links are not possible."""
    target = base / "custom_nodes" / FOLDER
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(root, target_is_directory=True)
    except OSError:
        shutil.copytree(root, target, ignore=shutil.ignore_patterns(".git", ".venv", ".luna"))


class ComfyServer:
    """One server process, in a session of its own: who starts it has to stop it.

    Args:
        comfyui: Which ComfyUI.
        base: Its base folder, with `models` and `custom_nodes`.
        environ: Further environment variables.
        options: Further command-line options.
        wait: Return when it answers; otherwise at once, and `wait_until_ready` is the caller's.
    """

    def __init__(
        self,
        comfyui: Installation,
        base: Path,
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        *,
        wait: bool = True,
    ) -> None:
        self.base = base
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = base / f"server-{self.port}.log"
        command = [str(comfyui.python), str(comfyui.root / "main.py"), "--cpu"]
        command += ["--port", str(self.port), "--base-directory", str(base)]
        command += ["--disable-auto-launch", "--disable-api-nodes", *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=comfyui.root,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for who started it, and finds the server alive to be ended
                # together with all that it has started.
                start_new_session=True,
                creationflags=_windows_flags(),
            )
        if wait:
            self.wait_until_ready()

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        with _http.open(self.url + path, timeout=60) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Return the JSON of a POST; raises urllib's HTTPError."""
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body or {}).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        with _http.open(request, timeout=120) as answer:
            return json.loads(answer.read() or b"null")

    def queue(self, prompt: dict[str, Any], workflow: dict[str, Any] | None = None) -> str:
        """Queue a prompt and return its id.

        Raises:
            RunFailedError: It was refused.
        """
        body: dict[str, Any] = {"prompt": prompt, "client_id": uuid.uuid4().hex}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        try:
            return str(self.post("/prompt", body)["prompt_id"])
        except urllib.error.HTTPError as error:
            with error:
                raise RunFailedError(json.loads(error.read())) from error

    def outputs(self, prompt_id: str) -> dict[str, Any] | None:
        """Return the outputs of a queued prompt's nodes, or None while it is not done.

        Raises:
            RunFailedError: A node raised.
        """
        entry = self.get(f"/history/{prompt_id}").get(prompt_id)
        return None if entry is None else _outputs(entry)

    def run(self, prompt: dict[str, Any], workflow: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run a prompt to its end and return the outputs of its nodes.

        Raises:
            RunFailedError: It was refused, a node raised, or it does not end.
        """
        prompt_id = self.queue(prompt, workflow)
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while time.monotonic() < deadline:
            outputs = self.outputs(prompt_id)
            if outputs is not None:
                return outputs
            time.sleep(_POLL_S)
        raise RunFailedError(f"no end within {RUN_TIMEOUT_S} s; {self.tail()}")

    def texts(self, prompt: dict[str, Any], node: str) -> list[str]:
        """Run a prompt and return what its node PreviewAny shows."""
        return list(self.run(prompt)[node]["text"])

    def image(self, prompt: dict[str, Any]) -> bytes:
        """Run a prompt and return the bytes of the one image that it saves."""
        return self.saved(self.run(prompt))

    def saved(self, outputs: dict[str, Any]) -> bytes:
        """Return the bytes of the one image among the outputs of a prompt."""
        images = [image for output in outputs.values() for image in output.get("images", ())]
        if len(images) != 1:
            raise InternalError(f"The workflow saved {len(images)} images instead of one.")
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

    def wait_until_ready(self) -> None:
        """Return when the server answers; one that does not start is ended.

        Raises:
            InternalError: It has ended, or does not answer in time; the message has the end of its log.
        """
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise InternalError(f"ComfyUI ended at its start:\n{self.tail()}")
            try:
                self.get("/system_stats")
            except OSError:
                time.sleep(_POLL_S)
            else:
                return
        self.stop()
        raise InternalError(f"ComfyUI did not start within {BOOT_TIMEOUT_S} s:\n{self.tail()}")


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


def _windows_flags() -> int:
    if sys.platform != "win32":
        return 0
    return subprocess.CREATE_NEW_PROCESS_GROUP
