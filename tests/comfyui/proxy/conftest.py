"""Proxies in this process, a real daemon in another, and stock objects of ComfyUI to compare with."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.client import DaemonClient
from luna_collection.luna_daemon.config import DaemonConfig
from luna_collection.luna_daemon.config_sources import resolve
from luna_collection.luna_daemon.errors import DaemonUnreachableError
from luna_command.comfyui import ComfyUI

from ..engine import random_weights
from . import narrow_encoders

LAUNCHER = Path(__file__).resolve().parents[3] / "luna_daemon" / "daemon_server.py"
START_TIMEOUT_S = 120
RELEASE_TIMEOUT_S = 30


@pytest.fixture(scope="session", autouse=True)
def comfy_is_there(comfyui: ComfyUI) -> None:
    """Import ComfyUI on the CPU as its own main program would have it: with its tree on the path."""
    torch.set_num_threads(1)
    sys.path.append(str(comfyui.root))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("comfy.options")
        importlib.import_module("comfy.cli_args").args.cpu = True
        importlib.import_module("nodes")


@pytest.fixture(autouse=True)
def as_in_comfyui() -> Iterator[None]:
    """Run as ComfyUI runs nodes; its own warnings are no failures of ours."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module", autouse=True)
def memory_is_given_back(comfy_is_there: None) -> Iterator[None]:
    """Let go of a module's models: those of all modules together are larger than many machines' memory."""
    yield
    import comfy.model_management

    gc.collect()
    comfy.model_management.cleanup_models()
    gc.collect()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the daemon may read models from."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def files(comfy_is_there: None, folder: Path) -> Callable[[str], Path]:
    """Return model files by name; each is made when it is first asked for."""
    makers: dict[str, Callable[[], random_weights.Weights]] = {
        "clip_l": lambda: random_weights.clip_text("clip_l"),
        "clip_l_other": lambda: random_weights.clip_text("clip_l", seed=11),
        "clip_g": lambda: random_weights.clip_text("clip_g", seed=5),
        "vae": random_weights.kl_vae,
        "vae_16": lambda: random_weights.kl_vae(torch.bfloat16, channels=16),
        "clip_l_fp8": lambda: random_weights.in_type(
            random_weights.clip_text("clip_l"), torch.float8_e4m3fn
        ),
        "taesd": random_weights.taesd,
        "wan": random_weights.wan_vae,
        "clip_vision": random_weights.clip_vision,
        "checkpoint": random_weights.checkpoint,
    }

    def file(name: str) -> Path:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            random_weights.save(makers[name](), path)
        return path

    return file


@pytest.fixture(scope="session")
def daemon(
    comfyui: ComfyUI, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonConfig]:
    """Run a daemon with the comfy engine; return how to reach it."""
    with run_daemon(comfyui.root, folder, tmp_path_factory.mktemp("daemon")) as config:
        yield config


@contextmanager
def run_daemon(comfyui: Path, folder: Path, runtime: Path, *flags: str) -> Iterator[DaemonConfig]:
    """Run a daemon on this interpreter as long as this lasts."""
    log = runtime / "log.txt"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, str(LAUNCHER), f"--runtime-dir={runtime}", "--port=0"),
                *("--device=cpu", "--engine=comfy", f"--comfyui-path={comfyui}"),
                *(f"--comfyui-python={sys.executable}", f"--model-roots={folder}", *flags),
            ],
            stdout=output,
            stderr=output,
        )
    config = resolve({"runtime_dir": runtime, "port": 0}, env={}).config
    _wait_until_ready(process, config, log)
    yield config
    with DaemonClient(config=config) as client:
        client.stop_daemon()
    process.wait(timeout=60)


def _wait_until_ready(process: subprocess.Popen[bytes], config: DaemonConfig, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with DaemonClient(config=config) as client:
                client.ping()
            return
        except DaemonUnreachableError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"the daemon did not start:\n{log.read_text()}") from None
            time.sleep(0.05)


class Calls:
    """A client that notes what was asked of the daemon."""

    def __init__(self, client: DaemonClient) -> None:
        self._client = client
        self.made: list[tuple[str, str]] = []  # module, method; "weights" for fetched ones
        self.sent_bytes = 0

    def call(self, workflow_id: str, work: Any, tensors: Any, **options: Any) -> Any:
        self.made.append((getattr(work, "module", ""), getattr(work, "method", "weights")))
        self.sent_bytes += sum(tensor.nbytes for tensor in tensors)
        return self._client.call(workflow_id, work, tensors, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@pytest.fixture(scope="session")
def calls(daemon: DaemonConfig) -> Iterator[Calls]:
    """Return the client of all proxies."""
    from luna_collection.luna_daemon.proxy.progress import comfyui_client

    with comfyui_client(daemon) as client:
        yield Calls(client)


@pytest.fixture(scope="session")
def models(calls: Calls) -> Any:
    """Return a workflow that refuses what cannot be shared."""
    from luna_collection.luna_daemon.proxy.models import DaemonModels

    return DaemonModels(calls, "tests", "SD1.5")  # type: ignore[arg-type]


@pytest.fixture
def notes() -> list[str]:
    """Return what the workflow of `local_models` was told for the person at the screen."""
    return []


@pytest.fixture
def local_models(calls: Calls, notes: list[str]) -> Any:
    """Return a workflow that loads here what cannot be shared."""
    from luna_collection.luna_daemon.proxy.models import DaemonModels

    client: Any = calls
    return DaemonModels(client, "local tests", "SD1.5", policy="local", on_note=notes.append)


@pytest.fixture(scope="session")
def narrow_models(
    comfyui: ComfyUI, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Return a workflow on a daemon whose ComfyUI has narrow text encoders."""
    from luna_collection.luna_daemon.proxy.models import DaemonModels
    from luna_collection.luna_daemon.proxy.progress import comfyui_client

    tree = tmp_path_factory.mktemp("comfyui")
    try:
        narrow_encoders.link_tree(comfyui.root, tree)
    except OSError as error:  # Windows, for people who may not make links
        pytest.skip(f"no links can be made here: {error}")
    with (
        run_daemon(tree, folder, tmp_path_factory.mktemp("narrow")) as config,
        comfyui_client(config) as client,
    ):
        yield DaemonModels(client, "narrow", "Flux")


@pytest.fixture
def open_narrow(
    narrow_models: Any, narrow_files: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Return text encoders in the daemon and stock ones: narrow, from the files of these names."""
    import comfy.sd
    from luna_collection.luna_daemon.proxy import builders
    from luna_collection.luna_daemon.proxy.opening import open_clip

    usual, narrow = builders._te_options, narrow_encoders.OPTIONS
    monkeypatch.setattr(builders, "_te_options", lambda dtype: {**usual(dtype), **narrow})

    def open_both(clip_type: str, *names: str) -> tuple[Any, Any]:
        files = [narrow_files(name) for name in names]
        stock = comfy.sd.load_clip(
            [str(file) for file in files],
            clip_type=getattr(comfy.sd.CLIPType, clip_type),
            model_options=dict(narrow),
        )
        return open_clip(narrow_models, files, clip_type), stock

    return open_both


@pytest.fixture(scope="session")
def narrow_files(files: Callable[[str], Path], folder: Path) -> Callable[[str], Path]:
    """Return model files by name, also "qwen3", "umt5" and "t5 fp16" and the like."""
    makers: dict[str, Callable[[str], random_weights.Weights]] = {
        "t5": lambda name: narrow_encoders.t5_weights(name[3:]),
        "umt5": lambda _: narrow_encoders.umt5_weights(),
        **dict.fromkeys(("qwen3", "qwen2.5", "gemma2"), narrow_encoders.llama_weights),
    }

    def file(name: str) -> Path:
        make = makers.get(name.split()[0])
        if make is None:
            return files(name)
        path = folder / f"{name.replace(' ', '_')}.safetensors"
        if not path.exists():
            narrow_encoders.save_with_holes(make(name), path)
        return path

    return file


@pytest.fixture(scope="module")
def clips(models: Any, files: Callable[[str], Path]) -> tuple[Any, Any]:
    """Return a text encoder of SD1.5 in the daemon, and the same from ComfyUI's own loader."""
    return open_pair(models, files("clip_l"))


@pytest.fixture(scope="module")
def sdxl(models: Any, files: Callable[[str], Path], embeddings: list[str]) -> tuple[Any, Any]:
    """Return both text encoders of SDXL in the daemon, and the same from ComfyUI's own loader."""
    return open_pair(models, files("clip_l"), files("clip_g"), embeddings=embeddings)


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return ComfyUI's folders of textual inversions: "mine" for CLIP-L alone, "both" for SDXL."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("embeddings")
    generator = torch.Generator().manual_seed(3)
    small, large = (torch.randn(2, width, generator=generator) * 0.1 for width in (768, 1280))
    save_file({"emb_params": small}, folder / "mine.safetensors")
    save_file({"clip_l": small, "clip_g": large}, folder / "both.safetensors")
    return [str(folder)]


@pytest.fixture(scope="module")
def vaes(models: Any, files: Callable[[str], Path]) -> tuple[Any, Any]:
    """Return the VAE of SD1.5 in the daemon, and the same from ComfyUI's own loader."""
    from luna_collection.luna_daemon.proxy.opening import open_vae

    return open_vae(models, files("vae")), stock_vae(files("vae"))


def open_pair(
    models: Any,
    *files: Path,
    dtype: torch.dtype | None = None,
    embeddings: list[str] | None = None,
) -> tuple[Any, Any]:
    """Return text encoders in the daemon, and the same from ComfyUI's own loader."""
    import comfy.sd
    from luna_collection.luna_daemon.proxy.opening import open_clip

    stock = comfy.sd.load_clip(
        [str(file) for file in files],
        embedding_directory=embeddings,
        model_options={} if dtype is None else {"dtype": dtype},
    )
    ours = open_clip(models, files, "STABLE_DIFFUSION", dtype=dtype, embedding_directory=embeddings)
    return ours, stock


def stock_vae(file: Path) -> Any:
    """Load a VAE as ComfyUI's node does."""
    import comfy.sd
    import comfy.utils

    weights, metadata = comfy.utils.load_torch_file(str(file), return_metadata=True)
    return comfy.sd.VAE(sd=weights, metadata=metadata)


def wait_until_released(models: Any) -> None:
    """Return when a workflow claims nothing; a thread of its own tells the daemon."""
    deadline = time.monotonic() + RELEASE_TIMEOUT_S
    while models.roles() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert models.roles() == ()
