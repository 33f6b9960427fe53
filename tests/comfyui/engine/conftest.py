"""The comfy engine in this process, beside stock objects of ComfyUI from the same files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.engines.comfy.boot import boot
from luna_collection.luna_daemon.engines.engine import EngineSettings, Resident
from luna_command.comfyui import ComfyUI

from . import random_weights
from .engine_client import EngineClient, spec_of


@pytest.fixture(scope="session", autouse=True)
def comfy_is_there(comfyui: ComfyUI) -> None:
    """Import ComfyUI with its default settings, on the CPU."""
    torch.set_num_threads(1)
    boot(comfyui.root, "cpu", {})


@pytest.fixture(autouse=True)
def without_warnings_of_comfyui() -> Iterator[None]:
    """ComfyUI's own warnings are no failures of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def files(comfy_is_there: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return model files by name; each is made when it is first asked for."""
    folder = tmp_path_factory.mktemp("models")
    half, full = torch.float16, torch.float32
    makers: dict[str, Callable[[], random_weights.Weights]] = {
        "clip_l": lambda: random_weights.clip_text("clip_l"),
        "clip_l_other": lambda: random_weights.clip_text("clip_l", seed=11),
        "clip_l_fp32": lambda: random_weights.clip_text("clip_l", full),
        "clip_g": lambda: random_weights.clip_text("clip_g", seed=5),
        "vae": lambda: random_weights.kl_vae(half),
        "vae_fp32": lambda: random_weights.kl_vae(full),
        "taesd": random_weights.taesd,
        "clip_vision": random_weights.clip_vision,
        "checkpoint": random_weights.checkpoint,
    }

    def file(name: str, start: int | None = None) -> Path:
        path = folder / f"{name}{'' if start is None else f'_at_{start}'}.safetensors"
        if not path.exists():
            random_weights.save(makers[name](), path, start)
        return path

    return file


@pytest.fixture
def client(comfyui: ComfyUI) -> Iterator[EngineClient]:
    """Return an engine of this test's own, and the client's side of its calls."""
    from luna_collection.luna_daemon.engines.comfy.engine import ComfyEngine

    engine = ComfyEngine(EngineSettings("cpu"), comfyui.root, {})
    yield EngineClient(engine)
    engine.close()


@pytest.fixture
def load(client: EngineClient) -> Iterator[Callable[..., Resident]]:
    """Load models into the test's engine; they are dropped after it."""
    loaded: list[Resident] = []

    def load(kind: str, *files: Path, key: str = "", **options: str) -> Resident:
        loaded.append(client.engine.load(spec_of(kind, *files, key=key, **options)))
        return loaded[-1]

    yield load
    for resident in loaded:
        if resident.model.object is not None:
            client.engine.unload(resident)


@pytest.fixture
def stock_clip() -> Callable[..., Any]:
    """Load text encoders as ComfyUI's nodes do."""

    def load(*files: Path, **options: Any) -> Any:
        import comfy.sd

        return comfy.sd.load_clip([str(file) for file in files], model_options=options)

    return load


@pytest.fixture
def stock_vae() -> Callable[[Path], Any]:
    """Load a VAE as ComfyUI's nodes do."""

    def load(file: Path) -> Any:
        import comfy.sd
        import comfy.utils

        weights, metadata = comfy.utils.load_torch_file(str(file), return_metadata=True)
        return comfy.sd.VAE(sd=weights, metadata=metadata)

    return load


def same(one: Any, other: Any) -> bool:
    """Are two values equal bit for bit, also in the order of their tensors in memory?"""
    if isinstance(one, torch.Tensor):
        return (
            isinstance(other, torch.Tensor)
            and one.dtype == other.dtype
            and one.stride() == other.stride()
            and torch.equal(one, other)
        )
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def latent(side: int = 8, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """Return random latents."""
    return torch.randn((batch, 4, side, side), generator=torch.Generator().manual_seed(seed))
