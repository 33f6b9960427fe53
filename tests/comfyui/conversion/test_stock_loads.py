"""What is converted loads in ComfyUI, fp8 and 16 bits without this pack, and samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from .conftest import Family, ltxv, sample

# How far the latents may be from those of the source, in parts of them: the precision of the weights, not
# of the loader, decides about it; a wrong scale or a tensor out of place gives more than 1.
FAR = {
    "bf16": 0.01,
    "fp16": 0.01,
    "fp8_e4m3fn": 0.15,
    "fp8_e5m2": 0.3,
    "fp8_e4m3fn_scaled": 0.15,
    "mxfp8": 0.15,
    "nvfp4": 0.5,
}


@pytest.fixture
def load(comfy_is_there: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """Load a file by the node UNETLoader."""
    import folder_paths

    import nodes

    def load(path: Path) -> Any:
        place = ([str(path.parent)], {".safetensors"})
        monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusion_models", place)
        return nodes.UNETLoader().load_unet(path.name, "default")[0]

    return load


@pytest.mark.parametrize("target", FAR)
@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux", "sd3", "wan"])
def test_a_converted_model_loads_and_samples(
    name: str,
    target: str,
    family: Callable[[str], Family],
    load: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    from luna_collection.utils.conversion.converting import converted_once
    from luna_collection.utils.conversion.refusal import ConversionRefusedError

    source = family(name)
    expected = sample(load(source.file), source)
    try:
        made = converted_once(source.file, target, tmp_path)
    except ConversionRefusedError:
        assert target == {"sd15": "fp16", "sdxl": "fp16"}.get(name, "bf16")
        return

    found = sample(load(made.path), source)

    distance = float((found - expected).norm() / expected.norm())

    assert torch.isfinite(found).all()
    assert distance < FAR[target]


GGUF_FAR = {
    "gguf_F16": 0.01,
    "gguf_BF16": 0.02,
    "gguf_Q8_0": 0.03,
    "gguf_Q6_K": 0.1,
    "gguf_Q5_K_M": 0.15,
    "gguf_Q4_K_M": 0.25,
    "gguf_Q4_0": 0.4,
}


@pytest.mark.parametrize("target", GGUF_FAR)
@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux", "sd3", "wan"])
def test_a_gguf_file_loads_and_samples(
    name: str,
    target: str,
    family: Callable[[str], Family],
    load: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    from luna_collection.luna_daemon.gguf_models.loading import load_gguf_model
    from luna_collection.utils.conversion.converting import converted_once

    source = family(name)
    expected = sample(load(source.file), source)
    made = converted_once(source.file, target, tmp_path)

    found = sample(load_gguf_model(str(made.path)), source)

    distance = float((found - expected).norm() / expected.norm())
    assert torch.isfinite(found).all()
    assert distance < GGUF_FAR[target]


def test_settings_in_a_files_texts_reach_the_model(comfy_is_there: None, tmp_path: Path) -> None:
    from luna_collection.luna_daemon.gguf_models.loading import load_gguf_model
    from luna_collection.utils.conversion.converting import converted_once

    found = []
    for causal in (False, True):
        path = tmp_path / f"{causal}.safetensors"
        settings = json.dumps({"transformer": {"causal_temporal_positioning": causal}})
        save_file(ltxv(), path, {"config": settings})
        made = converted_once(path, "gguf_Q8_0", tmp_path)
        model = load_gguf_model(str(made.path)).model.diffusion_model
        found.append(model.causal_temporal_positioning)

    assert found == [False, True]
