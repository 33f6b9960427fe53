from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from luna_collection.luna_daemon.demo.tiny_models import make_sd15_like, make_sdxl_like
from luna_collection.luna_daemon.engines.engine import EngineSettings, Resident
from luna_collection.luna_daemon.engines.hf.engine import HfEngine
from luna_collection.luna_daemon.errors import CanceledError
from luna_collection.luna_daemon.protocol.work import DecodeLatent, EncodeImage, Tiling
from luna_collection.luna_daemon.protocol.worker_messages import ModelSpec
from safetensors.torch import load_file, save_file

Load = Callable[..., Resident]
Run = Callable[..., torch.Tensor]
Weights = dict[str, torch.Tensor]


class Recorder:
    """A RunControl that remembers what it was told, and gives up at the n-th check."""

    def __init__(self, cancel_at: int | None = None) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[int, int]] = []
        self.checks = 0
        self.cancel_at = cancel_at

    def check(self) -> None:
        if self.checks == self.cancel_at:
            raise CanceledError("The caller gave up.")
        self.checks += 1

    def progress(self, done: int, total: int) -> None:
        self.steps.append((done, total))

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="session")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sd15_like(tmp_path_factory.mktemp("models") / "tiny-sd15")


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sdxl_like(tmp_path_factory.mktemp("models") / "tiny-sdxl")


@pytest.fixture
def repo(sd15: Path, tmp_path: Path) -> Path:
    """A copy of the SD1.5-like folder that a test may damage."""
    return Path(shutil.copytree(sd15, tmp_path / "repo"))


@pytest.fixture
def engine() -> HfEngine:
    return HfEngine(EngineSettings(device="cpu"))


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def load(engine: HfEngine) -> Load:
    """Load a model into the test's engine: load(folder, role, precision)."""

    def load_model(folder: Path, role: str, precision: str = "fp32") -> Resident:
        key = f"{folder}:{precision}"
        spec = ModelSpec(key=key, role=role, path=str(folder), precision=precision, nbytes=0)
        return engine.load(spec)

    return load_model


@pytest.fixture
def change_weights() -> Callable[[Path, Callable[[Weights], None]], None]:
    """Rewrite a weight file: change_weights(file, function that edits the table)."""

    def change(file: Path, edit: Callable[[Weights], None]) -> None:
        weights = {name: value.clone() for name, value in load_file(file).items()}
        edit(weights)
        save_file(weights, file)

    return change


@pytest.fixture
def change_json() -> Callable[..., None]:
    """Set keys of a JSON file: change_json(file, key=value)."""

    def change(file: Path, **values: object) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


@pytest.fixture
def vae(load: Load, sd15: Path) -> Resident:
    return load(sd15 / "vae", "vae")


@pytest.fixture
def decode(engine: HfEngine, vae: Resident) -> Run:
    """Decode with the SD1.5-like VAE: decode(latent, control, tile=…, overlap=…)."""

    def run(latent: torch.Tensor, control: Recorder | None = None, **tiling: int) -> torch.Tensor:
        work = DecodeLatent(latent=0, tiling=Tiling(**tiling) if tiling else None)
        outcome = engine.run(work, "SD1.5", {"vae": vae}, (latent,), control or Recorder())
        return outcome.tensors[outcome.result.images]

    return run


@pytest.fixture
def encode(engine: HfEngine, vae: Resident) -> Run:
    """Encode with the SD1.5-like VAE: encode(image, control, tile=…, overlap=…)."""

    def run(image: torch.Tensor, control: Recorder | None = None, **tiling: int) -> torch.Tensor:
        work = EncodeImage(image=0, tiling=Tiling(**tiling) if tiling else None)
        outcome = engine.run(work, "SD1.5", {"vae": vae}, (image,), control or Recorder())
        return outcome.tensors[outcome.result.latents]

    return run
