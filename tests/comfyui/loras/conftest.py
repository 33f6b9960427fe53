"""Models and LoRAs with random weights, loaded by ComfyUI's own loaders; and a daemon beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ..proxy.conftest import (
    as_in_comfyui,
    calls,
    comfy_is_there,
    daemon,
    files,
    folder,
    memory_is_given_back,
    models,
)
from ..router_models import make_sd15, make_sdxl, write

__all__ = [
    "as_in_comfyui",
    "calls",
    "comfy_is_there",
    "daemon",
    "files",
    "folder",
    "memory_is_given_back",
    "models",
]
FAMILIES = ("sd15", "sdxl")


@dataclass(frozen=True)
class Stock:
    """A model and its text encoders, from ComfyUI's own loaders."""

    model: Any
    clip: Any
    encoders: tuple[Path, ...]


@pytest.fixture(scope="session")
def model_files(comfy_is_there: None, folder: Path) -> Path:
    """Return a folder of small models; the daemon may read it."""
    make_sd15(folder)
    make_sdxl(folder)
    return folder


@pytest.fixture(scope="module")
def stock(model_files: Path) -> Callable[[str], Stock]:
    """Return models by family; each is loaded when it is first asked for."""
    import comfy.sd

    known: dict[str, Stock] = {}

    def load(family: str) -> Stock:
        if family not in known:
            small = {"sd15": "v1-5-pruned-emaonly-fp16", "sdxl": "sd_xl_base_1.0"}[family]
            encoders = {"sd15": ["clip_l"], "sdxl": ["clip_l", "clip_g"]}[family]
            paths = tuple(model_files / f"text_encoders/{name}.safetensors" for name in encoders)
            checkpoint = str(model_files / f"checkpoints/{small}.safetensors")
            known[family] = Stock(
                comfy.sd.load_checkpoint_guess_config(
                    checkpoint, output_vae=False, output_clip=False
                )[0],
                comfy.sd.load_clip([str(path) for path in paths]),
                paths,
            )
        return known[family]

    return load


@pytest.fixture(scope="session")
def lora_folder(model_files: Path) -> Iterator[Path]:
    """Return the only folder of LoRAs that ComfyUI knows."""
    import folder_paths

    path = model_files / "loras"
    path.mkdir(exist_ok=True)
    before = folder_paths.folder_names_and_paths["loras"]
    folder_paths.folder_names_and_paths["loras"] = ([str(path)], before[1])
    folder_paths.filename_list_cache.pop("loras", None)
    yield path
    folder_paths.folder_names_and_paths["loras"] = before
    folder_paths.filename_list_cache.pop("loras", None)


@pytest.fixture(scope="module")
def loras(stock: Callable[[str], Stock], lora_folder: Path) -> Callable[[str, int], list[str]]:
    """Return the names of LoRAs for a family, both sides; each is made when it is first asked for."""

    def names(family: str, count: int) -> list[str]:
        made = []
        for number in range(count):
            name = f"{family}/style {number}.v1.safetensors"
            if not (lora_folder / name).exists():
                write(lora_folder, name, random_lora(stock(family), family, number))
            made.append(name)
        return made

    return names


def random_lora(stock: Stock, family: str, seed: int, rank: int = 4) -> dict[str, torch.Tensor]:
    """Return a LoRA for some layers of a model's attention and of its text encoders."""
    generator = torch.Generator().manual_seed(100 + seed)
    prefixes = {"sd15": {"clip_l": "lora_te"}, "sdxl": {"clip_l": "lora_te1", "clip_g": "lora_te2"}}
    targets: dict[str, torch.Size] = {}
    for key, weight in stock.model.model.state_dict().items():
        if key.endswith(("attn2.to_k.weight", "attn1.to_q.weight", "ff.net.2.weight")):
            name = key.removeprefix("diffusion_model.").removesuffix(".weight").replace(".", "_")
            targets[f"lora_unet_{name}"] = weight.shape
    for key, weight in stock.clip.cond_stage_model.state_dict().items():
        if key.endswith((".3.self_attn.q_proj.weight", ".5.mlp.fc1.weight")):
            encoder, _, name = key.removesuffix(".weight").partition(".transformer.")
            targets[f"{prefixes[family][encoder]}_{name.replace('.', '_')}"] = weight.shape
    weights = {}
    for name, shape in targets.items():
        for end, size in (("up", (shape[0], rank)), ("down", (rank, shape[1]))):
            numbers = torch.randn(size, generator=generator) * 0.1
            weights[f"{name}.lora_{end}.weight"] = numbers.to(torch.float16)
        weights[f"{name}.alpha"] = torch.tensor(float(rank))
    return weights


def stock_chain(
    model: Any, clip: Any, strengths: list[tuple[str, float, float]]
) -> tuple[Any, Any]:
    """Put LoRAs on with a fresh LoraLoader for each, as a workflow would."""
    import nodes

    for name, for_model, for_clip in strengths:
        model, clip = nodes.LoraLoader().load_lora(model, clip, name, for_model, for_clip)
    return model, clip


def patched_weights(model: Any) -> dict[str, torch.Tensor]:
    """Load a model as a sampler does, and return a copy of its weights in memory."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model])
    return weights_in_memory(model)


def weights_in_memory(model: Any) -> dict[str, torch.Tensor]:
    """Return a copy of the weights as they are now."""
    return {key: value.clone() for key, value in model.model.state_dict().items()}


def assert_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Compare weights bit for bit."""
    assert one.keys() == other.keys()
    different = [key for key in one if not torch.equal(one[key], other[key])]
    assert different == []
