"""What every measurement of this area starts: model files, a daemon with the comfy engine, processes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..daemon_area.children import Teller, command_of
from ..daemon_area.private_daemon import PrivateDaemon
from ..entries import Bench
from .installed import Installed, find

AREA = "comfyui_area"


class Stage:
    """A ComfyUI and model files for it.

    Args:
        bench: Where the files go.
        names: Which files are needed.
    """

    def __init__(self, bench: Bench, names: Sequence[str]) -> None:
        found = find()
        assert found is not None, "the area is not measured without one"
        self.installed: Installed = found
        self.folder = bench.folder / "comfyui-models"
        self._bench = bench
        bench.tell("making models")
        arguments = (str(found.folder), str(self.folder), *names)
        subprocess.run(
            command_of("model_files", *arguments, area=AREA, python=str(found.python)), check=True
        )

    def file(self, name: str) -> str:
        """Return a model file's path."""
        return str(self.folder / f"{name}.safetensors")

    def sd15_clip(self) -> dict[str, Any]:
        """Return what opens SD1.5's text encoder."""
        return {"clip": [self.file("clip_l")], "clip_type": "STABLE_DIFFUSION"}

    def sdxl_clip(self) -> dict[str, Any]:
        """Return what opens SDXL's text encoders."""
        return {"clip": [self.file("clip_l"), self.file("clip_g")], "clip_type": "STABLE_DIFFUSION"}

    def vae(self) -> dict[str, Any]:
        """Return what opens SD1.5's VAE."""
        return {"vae": self.file("vae")}

    def daemon(self, **settings: object) -> PrivateDaemon:
        """Return a daemon whose workers run this ComfyUI; use it in a `with` block."""
        return PrivateDaemon(
            self._bench.folder,
            engine="comfy",
            comfyui_path=self.installed.folder,
            comfyui_python=self.installed.python,
            model_roots=self.folder,
            worker_threads=1,
            **settings,
        )

    @contextmanager
    def processes(
        self, count: int, way: str, *options: str, module: str = "comfy_process", area: str = AREA
    ) -> Iterator[list[ComfyUIProcess]]:
        """Run so many processes of ComfyUI's interpreter, all ready; `module` says what they run."""
        arguments = (str(self.installed.folder), way, *options)
        python = str(self.installed.python)
        tellers = []
        try:
            for _ in range(count):
                tellers.append(Teller(module, *arguments, area=area, python=python))
            for teller in tellers:
                teller.hear()
            yield [ComfyUIProcess(teller) for teller in tellers]
        finally:
            for teller in tellers:
                teller.end()


class ComfyUIProcess:
    """A process that opens models and uses them; see comfy_process.py for what it understands."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self.pid = teller.pid

    def do(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Let it do something and return its answer."""
        self.begin(what, **arguments)
        return self.answer()

    def begin(self, what: str, **arguments: Any) -> None:
        """Let it do something; `answer` waits for it."""
        self._teller.tell(do=what, **arguments)

    def answer(self) -> dict[str, Any]:
        """Wait for what was begun."""
        return self._teller.hear()


def runtime_options(daemon: PrivateDaemon) -> tuple[str, str]:
    """Return what tells a process where the daemon is."""
    return "--runtime-dir", str(daemon.runtime_dir)


def mb(nbytes: float) -> str:
    """Return a size for people."""
    return f"{nbytes / 2**20:.0f} MB"
