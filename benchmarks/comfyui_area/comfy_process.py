"""A process of ComfyUI's interpreter that opens models, uses them, and tells what that took.

Told and telling in JSON lines. Each line names what to do and its arguments, and is answered with one:
`{"do": "open", "clip": [FILE…], "clip_type": NAME, "vae": FILE}`, `{"do": "encode", "calls": N}`,
`{"do": "decode", "calls": N, "side": N}`, `{"do": "check", "calls": N}`, `{"do": "memory"}`.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import psutil
import torch

from ...luna_daemon.engines.comfy.boot import boot
from ...luna_daemon.protocol.worker_messages import ModelSpec
from ...utils.model_types import ModelKind
from ..daemon_area.private_daemon import config_for

STOCK, STOCK_FP32, DAEMON, ENGINE = "stock", "stock_fp32", "daemon", "engine"
ROLLUP = Path("/proc/self/smaps_rollup")


class Opener(Protocol):
    """Opens models in one of the ways that are compared."""

    def clip(self, files: Sequence[str], clip_type: str) -> Any:
        """Return a comfy.sd.CLIP, or what stands for one."""

    def vae(self, file: str) -> Any:
        """Return a comfy.sd.VAE, or what stands for one."""


def main(arguments: Sequence[str], kind: type[ComfyProcess] | None = None) -> int:
    """Serve until standard input ends; another area's process may be of a kind that can do more."""
    parser = argparse.ArgumentParser(prog="comfy_process")
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("way", choices=(STOCK, STOCK_FP32, DAEMON, ENGINE))
    parser.add_argument("--runtime-dir", type=Path, help="Of the daemon.")
    parser.add_argument("--bare", action="store_true", help="Import no more than a worker does.")
    options = parser.parse_args(arguments)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever ComfyUI prints is no answer
    torch.set_num_threads(1)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        if options.bare:
            boot(options.comfyui, "cpu", {})
        else:
            _import_as_a_server(options.comfyui)
        _serve((kind or ComfyProcess)(_opener(options)), answers)
    return 0


def _import_as_a_server(comfyui: Path) -> None:
    """Import what ComfyUI's main program has when it runs a graph."""
    sys.path.append(str(comfyui))
    importlib.import_module("comfy.options")
    importlib.import_module("comfy.cli_args").args.cpu = True
    importlib.import_module("nodes")


def _serve(process: ComfyProcess, answers: TextIO) -> None:
    jobs = process.jobs()
    _tell(answers, ready=True)
    while line := sys.stdin.readline():
        order = json.loads(line)
        _tell(answers, **jobs[order.pop("do")](**order))


class ComfyProcess:
    """The models that are open, and what is done with them."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._vae: Any = None
        self.clip: Any = None
        self.texts = _texts()

    def jobs(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """Return what it can be told to do."""
        return {
            "open": self.open,
            "encode": self.encode,
            "decode": self.decode,
            "check": self.check,
            "memory": memory,
        }

    def open(self, clip: Sequence[str] = (), clip_type: str = "", vae: str = "") -> dict[str, Any]:
        """Open models in place of those that were open."""
        self.clip = self._vae = None
        gc.collect()
        before = memory()
        cpu, wall = time.process_time(), time.perf_counter()
        if clip:
            self.clip = self._opener.clip(clip, clip_type)
        if vae:
            self._vae = self._opener.vae(vae)
        taken = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        return {**taken, **{f"{name}_grown": now - before[name] for name, now in memory().items()}}

    def encode(self, calls: int) -> dict[str, Any]:
        """Encode texts that were not encoded before; tell what became of the last one."""
        for text in itertools.islice(self.texts, calls):
            found = encoded(self.clip, text)
        return {"digest": digest_of(*found)}

    def decode(self, calls: int, side: int) -> dict[str, Any]:
        """Decode a latent; tell what became of it."""
        latent = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(1))
        for _ in range(calls):
            image = self._vae.decode(latent)
        return {"digest": digest_of(image)}

    def check(self, calls: int) -> dict[str, Any]:
        """Look for edits of the VAE's module tree; tell the CPU time of each look."""
        from ...luna_daemon.proxy.skeleton import skeleton_of

        skeleton = skeleton_of(self._vae.first_stage_model)
        times = []
        for _ in range(calls):
            started = time.process_time()
            edits = skeleton.edits()
            times.append((time.process_time() - started) * 1000)
            if edits:
                raise ValueError(f"Nobody has edited the VAE, but '{edits[0]}' was found.")
        return {"times_ms": times}


class _Stock:
    """ComfyUI's own loaders, as its nodes call them."""

    def clip(self, files: Sequence[str], clip_type: str) -> Any:
        import comfy.sd

        return comfy.sd.load_clip(list(files), clip_type=getattr(comfy.sd.CLIPType, clip_type))

    def vae(self, file: str) -> Any:
        import comfy.sd
        import comfy.utils

        weights, metadata = comfy.utils.load_torch_file(file, return_metadata=True)
        return comfy.sd.VAE(sd=weights, metadata=metadata)


class _StockFp32(_Stock):
    """The same, with the text encoder's weights converted once, as a daemon with clip_precision=fp32 does."""

    def clip(self, files: Sequence[str], clip_type: str) -> Any:
        from ...luna_daemon.engines.comfy.holding import hold_in_fp32

        clip = super().clip(files, clip_type)
        hold_in_fp32(clip.patcher)
        return clip


class _Daemon:
    """Proxies of models that the daemon holds."""

    def __init__(self, runtime_dir: Path) -> None:
        from ...luna_daemon.proxy.models import DaemonModels
        from ...luna_daemon.proxy.progress import comfyui_client

        client = comfyui_client(config_for(runtime_dir))
        self._models = DaemonModels(client, f"process {psutil.Process().pid}", "benchmark")

    def clip(self, files: Sequence[str], clip_type: str) -> Any:
        from ...luna_daemon.proxy.opening import open_clip

        return open_clip(self._models, files, clip_type)

    def vae(self, file: str) -> Any:
        from ...luna_daemon.proxy.opening import open_vae

        return open_vae(self._models, file)


class _Engine:
    """What a worker does to load a model, in this process."""

    def clip(self, files: Sequence[str], clip_type: str) -> Any:
        return self._load("clip", files, clip_type=clip_type)

    def vae(self, file: str) -> Any:
        return self._load("vae", [file])

    def _load(self, kind: ModelKind, files: Sequence[str], **options: str) -> Any:
        from ...luna_daemon.engines.comfy.loading import load_model

        spec = ModelSpec(
            key=kind,
            role=kind,
            path=files[0],
            precision="auto",
            nbytes=sum(Path(file).stat().st_size for file in files),
            kind=kind,
            more_paths=tuple(files[1:]),
            options=options,
        )
        return load_model(spec).object


def _opener(options: argparse.Namespace) -> Opener:
    if options.way == DAEMON:
        return _Daemon(options.runtime_dir)
    return {STOCK: _Stock, STOCK_FP32: _StockFp32, ENGINE: _Engine}[options.way]()


def memory() -> dict[str, Any]:
    """Return what this process takes, in bytes: its share of everything, and what no file backs."""
    if not ROLLUP.is_file():  # only Linux says more
        own = int(psutil.Process().memory_full_info().uss)
        return {"share": own, "anonymous": own}
    lines = (line.split() for line in ROLLUP.read_text("utf-8").splitlines()[1:])
    sizes = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
    return {"share": sizes["Pss"], "anonymous": sizes["Anonymous"]}


def encoded(clip: Any, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the conditioning of a text, and what is pooled of it."""
    cond, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    return cond, pooled


def _texts() -> Iterator[str]:
    return (f"a lighthouse in storm number {number}" for number in itertools.count())


def digest_of(*tensors: torch.Tensor) -> str:
    """Return a name of tensors' content."""
    content = b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)
    return hashlib.sha256(content).hexdigest()


def _tell(answers: TextIO, **event: Any) -> None:
    answers.write(json.dumps(event) + "\n")
    answers.flush()
