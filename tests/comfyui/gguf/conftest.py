"""Small models as GGUF files, and the same dequantised as safetensors files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ..proxy.conftest import as_in_comfyui, comfy_is_there
from ..router_models import make_sd15
from . import gguf_files, small_models

__all__ = ["as_in_comfyui", "comfy_is_there"]
ALL_TYPES = ("Q4_K", "Q8_0", "Q5_0", "Q4_0", "Q5_K", "Q6_K", "F16", "BF16")


@dataclass(frozen=True)
class Pair:
    """One model in two files."""

    gguf: Path
    safetensors: Path

    def ours(self, **options: Any) -> Any:
        """Load the GGUF file."""
        from luna_collection.luna_daemon.gguf_models.loading import load_gguf_model

        return load_gguf_model(str(self.gguf), options)

    def stock(self, **options: Any) -> Any:
        """Load the dequantised file by ComfyUI's own loader."""
        import comfy.sd

        return comfy.sd.load_diffusion_model(str(self.safetensors), model_options=options)


@pytest.fixture(scope="session")
def gguf_folder(comfy_is_there: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the files are."""
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="session")
def pair_of(gguf_folder: Path) -> Callable[..., Pair]:
    """Return a family's model, in these element types; each is made when it is first asked for."""

    def make(family: str, kinds: Iterable[str] = ALL_TYPES) -> Pair:
        kinds = tuple(kinds)
        path = gguf_folder / f"{family} {'-'.join(kinds)}.gguf"
        pair = Pair(path, path.with_suffix(".safetensors"))
        if not path.exists():
            maker, architecture = small_models.FAMILIES[family]
            entries = gguf_files.mixture(maker(), kinds)
            gguf_files.write_gguf(path, architecture, entries)
            save_file(gguf_files.dequantised(entries), pair.safetensors)
        return pair

    return make


@pytest.fixture(scope="session")
def sd15_files(gguf_folder: Path) -> Path:
    """Return a folder with text encoder and VAE of SD1.5."""
    make_sd15(gguf_folder)
    return gguf_folder


def runs(model: Any, family: str) -> torch.Tensor:
    """Let a model run once, as a sampler would."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model])
    given, named = small_models.inputs(family)
    result: torch.Tensor = model.model.apply_model(*given, **named)
    return result
