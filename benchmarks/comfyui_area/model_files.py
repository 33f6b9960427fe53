"""Model files of real sizes with random weights. Run by ComfyUI's interpreter: its modules say the shapes.

`COMFYUI FOLDER NAME…`: writes FOLDER/NAME.safetensors for each name; a file that is there is left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ...luna_daemon.engines.comfy.boot import boot

SUFFIX = ".safetensors"
REPEATED = 1 << 20  # random numbers take their time, so large weights repeat some


def main(arguments: Sequence[str]) -> int:
    """Write the files."""
    comfyui, folder, *names = arguments
    boot(Path(comfyui), "cpu", {})
    for name in names:
        write_file(Path(folder), name)
    return 0


def write_file(folder: Path, name: str) -> Path:
    """Write a file, unless it is there; return where it is. ComfyUI has to be importable."""
    path = folder / f"{name}{SUFFIX}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        save_file(random_weights(_MAKERS[name]()), unfinished)
        os.replace(unfinished, path)
    return path


def _clip_l() -> torch.nn.Module:
    return _text_model("sd1_clip_config.json")


def _clip_g() -> torch.nn.Module:
    return _text_model("clip_config_bigg.json")


def _text_model(config_file: str) -> torch.nn.Module:
    import comfy.clip_model
    import comfy.ops
    import comfy.sd

    file = Path(comfy.sd.__file__).parent / config_file
    config = json.loads(file.read_text("utf-8"))
    made: torch.nn.Module = comfy.clip_model.CLIPTextModel(
        config, torch.float16, "meta", comfy.ops.manual_cast
    )
    return made


def _vae() -> torch.nn.Module:
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config: dict[str, Any] = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    with torch.device("meta"):
        made: torch.nn.Module = AutoencoderKL(ddconfig=config, embed_dim=4)
    return made


def _clip_vision() -> torch.nn.Module:
    import comfy.clip_model
    import comfy.ops
    import comfy.sd

    file = Path(comfy.sd.__file__).parent / "clip_vision_config_vitl.json"
    config = json.loads(file.read_text("utf-8"))
    made: torch.nn.Module = comfy.clip_model.CLIPVisionModelProjection(
        config, torch.float16, "meta", comfy.ops.manual_cast
    )
    return made


_MAKERS: dict[str, Callable[[], torch.nn.Module]] = {
    "clip_l": _clip_l,
    "clip_g": _clip_g,
    "vae": _vae,
    "clip_vision": _clip_vision,
}


def random_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Fill a module on `meta`, in half precision; the weights of norms are around one."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, empty in module.state_dict().items():
        count = empty.numel()
        numbers = (torch.randn(min(count, REPEATED), generator=generator) * 0.02).half()
        tensor = numbers.repeat(-(-count // max(len(numbers), 1)))[:count].reshape(empty.shape)
        is_norm = name.endswith("weight") and empty.dim() == 1
        weights[name] = (tensor + 1.0 if is_norm else tensor).contiguous()
    return weights
