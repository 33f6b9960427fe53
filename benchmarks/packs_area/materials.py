"""What the graphs are given: on one side ComfyUI's own objects, on the other the daemon's; the rest is alike."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.sd
import comfy.utils
import torch

from ...luna_daemon.proxy.models import DaemonModels
from ...luna_daemon.proxy.opening import open_clip, open_clip_vision, open_vae
from ...luna_daemon.proxy.skeleton import Skeleton, skeleton_of
from ..comfyui_area.model_files import write_file
from .slots import LARGE_IMAGE, LARGE_LATENT, SDXL_CLIP, TEXT
from .stand_ins import MAKERS
from .values import image, latent, observed

STOCK, DAEMON = "stock", "daemon"


# Where a skeleton hangs at the models of proxies.
_ROOTS = {
    "clip": "cond_stage_model",
    "sdxl_clip": "cond_stage_model",
    "vae": "first_stage_model",
    "clip_vision": "model",
}


class Files:
    """The model files below a folder `models`. Those that few packs need are made when they are needed."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self.clip_l = str(models / "text_encoders" / "clip_l.safetensors")
        self.model = str(models / "diffusion_models" / "sd15_unet.safetensors")
        # Now: nodes have lists of what there is.
        self.vae = str(write_file(models / "vae", "vae"))

    @cached_property
    def clip_g(self) -> str:
        """The larger text encoder of SDXL."""
        return str(write_file(self._models / "text_encoders", "clip_g"))

    @cached_property
    def clip_vision(self) -> str:
        """A CLIP vision model."""
        return str(write_file(self._models / "clip_vision", "clip_vision"))


class Side:
    """The models of one side, opened when they are first asked for."""

    def __init__(self, files: Files, models: DaemonModels | None) -> None:
        self.files = files
        self.models = models

    @cached_property
    def clip(self) -> Any:
        """The text encoder of SD1.5."""
        return self._clip(self.files.clip_l)

    @cached_property
    def sdxl_clip(self) -> Any:
        """The text encoders of SDXL."""
        return self._clip(self.files.clip_l, self.files.clip_g)

    @cached_property
    def vae(self) -> Any:
        """The VAE of SD1.5."""
        if self.models is not None:
            return open_vae(self.models, self.files.vae)
        weights, metadata = comfy.utils.load_torch_file(self.files.vae, return_metadata=True)
        return comfy.sd.VAE(sd=weights, metadata=metadata)

    @cached_property
    def clip_vision(self) -> Any:
        """A CLIP vision model."""
        if self.models is not None:
            return open_clip_vision(self.models, self.files.clip_vision)
        return comfy.clip_vision.load(self.files.clip_vision)

    @cached_property
    def model(self) -> Any:
        """A small model of the SD1.5 family, in this process on both sides."""
        return comfy.sd.load_diffusion_model(self.files.model)

    def state(self, names: Iterable[str]) -> dict[str, Any]:
        """Return what some of the models do; nodes leave things behind in them."""
        return {name: observed(getattr(self, name)) for name in names}

    def is_here(self) -> bool:
        """Tell whether a model of the daemon was loaded into this process."""
        opened = [(vars(self)[name], root) for name, root in _ROOTS.items() if name in vars(self)]
        found = [_skeleton(getattr(model, root)) for model, root in opened]
        return any(skeleton is not None and skeleton.is_local for skeleton in found)

    def renew(self) -> None:
        """Open everything anew when it is next asked for."""
        for name in (*_ROOTS, "model"):
            vars(self).pop(name, None)
        gc.collect()

    def _clip(self, *files: str) -> Any:
        if self.models is not None:
            return open_clip(self.models, files, "STABLE_DIFFUSION")
        return comfy.sd.load_clip(list(files), clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)


class Given:
    """What a source of a graph gives, by the name of its type."""

    def __init__(self, side: Side, conditioning: Any) -> None:
        self.by_name: dict[str, Callable[[], Any]] = {
            "CLIP": lambda: side.clip,
            SDXL_CLIP: lambda: side.sdxl_clip,
            "VAE": lambda: side.vae,
            "CLIP_VISION": lambda: side.clip_vision,
            "MODEL": lambda: side.model,
            "CONDITIONING": lambda: copy.deepcopy(conditioning),
            "LATENT": lambda: {"samples": latent(8, 8)},
            "IMAGE": image,
            "MASK": lambda: _mask(64),
            **MAKERS,
            LARGE_LATENT: lambda: {"samples": latent(60, 52)},
            LARGE_IMAGE: lambda: image(480, 416),
        }


def conditioning_of(clip: Any) -> Any:
    """Return a text's conditioning, which both sides are given."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(TEXT))


def models_of(sources: Iterable[str]) -> set[str]:
    """Return which of a side's models sources of these names give."""
    return {name for name in (source.lower() for source in sources) if name in _ROOTS}


def _mask(side: int) -> torch.Tensor:
    mask = torch.zeros(1, side, side)
    mask[:, side // 4 : side // 2, side // 4 : side // 2] = 1.0
    return mask


def _skeleton(root: torch.nn.Module) -> Skeleton | None:
    return skeleton_of(root) if any("luna_skeleton" in name for name in vars(root)) else None
