"""Models loaded into this process, by ComfyUI's own loaders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import comfy.clip_vision
import comfy.model_management
import comfy.sd
import comfy.utils
import folder_paths

from ..luna_daemon.encoders_inside import read_encoders
from ..luna_daemon.gguf_models.loading import load_gguf_clip, load_gguf_model
from ..luna_daemon.gguf_models.reading import is_gguf
from ..utils.errors import InputError, LunaError, ModelFileError
from ..utils.routing.choice import ClipPart, VaePart
from ..utils.weights.model_parts import is_part
from ..utils.weights.shelf import ModelFile


class LocalModels:
    """Text encoders, VAEs and image encoders of this process."""

    label = "local"

    def __init__(self) -> None:
        self.notes: list[str] = []

    def prepare(self) -> None:
        """Nothing has to be got ready."""

    def open_clip(self, part: ClipPart) -> Any:
        """Load text encoders."""
        with _named(part.files):
            return _open_clip(part)

    def open_vae(self, part: VaePart) -> Any:
        """Load a VAE."""
        with _named((part.file,)):
            vae = _open_vae(part)
        if vae is None or vae.first_stage_model is None:
            raise _lacks(part.file, "VAE")
        return vae

    def open_clip_vision(self, file: ModelFile) -> Any:
        """Load an image encoder."""
        with _named((file,)):
            vision = comfy.clip_vision.load(str(file.path))
        if vision is None:
            raise _lacks(file, "image encoder")
        return vision


def open_model(file: ModelFile) -> Any:
    """Load a diffusion model; it is always in this process."""
    if is_part(file.path):
        raise ModelFileError(
            f"'{file.name}' is one part of a model, and ComfyUI loads whole files only.",
            "Choose a dynamic_precision, which makes one file of all parts (bf16 or fp16 changes nothing of a "
            "model in that precision); or convert it with luna.py convert.",
        )
    with _named((file,)):
        model = _open_model(file)
    if model is None:
        raise _lacks(file, "diffusion model")
    return model


def _open_clip(part: ClipPart) -> Any:
    embeddings = folder_paths.get_folder_paths("embeddings")
    if part.checkpoint:
        clip = comfy.sd.load_checkpoint_guess_config(
            str(part.files[0].path),
            output_vae=False,
            output_clip=True,
            output_model=False,
            embedding_directory=embeddings,
        )[1]
        if clip is None:
            raise _lacks(part.files[0], "text encoder")
        return clip
    paths = [str(file.path) for file in part.files]
    if any(is_gguf(file.path) for file in part.files):
        return load_gguf_clip(
            paths, embeddings, clip_type(part.clip_type), inside=part.inside or None
        )
    if part.inside:
        return comfy.sd.load_text_encoder_state_dicts(
            read_encoders(paths, part.inside),
            embedding_directory=embeddings,
            clip_type=clip_type(part.clip_type),
        )
    return comfy.sd.load_clip(
        ckpt_paths=paths,
        embedding_directory=embeddings,
        clip_type=clip_type(part.clip_type),
    )


def _open_vae(part: VaePart) -> Any:
    path = str(part.file.path)
    if part.checkpoint:
        return comfy.sd.load_checkpoint_guess_config(
            path, output_vae=True, output_clip=False, output_model=False
        )[2]
    weights, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
    vae = comfy.sd.VAE(sd=weights, metadata=metadata)
    _remember_file(vae, path, metadata)
    return vae


def _open_model(file: ModelFile) -> Any:
    if is_gguf(file.path):
        return load_gguf_model(str(file.path))
    if file.folder != "checkpoints":
        return comfy.sd.load_diffusion_model(str(file.path))
    return comfy.sd.load_checkpoint_guess_config(
        str(file.path), output_vae=False, output_clip=False
    )[0]


@contextlib.contextmanager
def _named(files: Sequence[ModelFile]) -> Iterator[None]:
    """Say which file it was that ComfyUI could not load: its own words rarely do."""
    try:
        yield
    except (LunaError, comfy.model_management.InterruptProcessingException):
        raise
    except comfy.model_management.OOM_EXCEPTION:
        raise  # ComfyUI has its own words for that, and makes room
    except Exception as error:  # boundary: whatever a damaged file makes a loader raise
        names = ", ".join(f"'{file.name}'" for file in files)
        if type(error).__name__ == "UnpicklingError":  # PyTorch's own words advise to run it anyway
            raise ModelFileError(
                f"ComfyUI does not load {names}: the file is damaged, or holds code beside weights, "
                "which is never run.",
                "Choose a .safetensors file of the same model, or download it again.",
            ) from error
        raise ModelFileError(
            f"ComfyUI cannot load {names}: {str(error) or type(error).__name__}",
            "Download it again, or choose another file.",
        ) from error


def clip_type(name: str) -> Any:
    """Return ComfyUI's CLIPType of a name.

    Raises:
        InputError: This ComfyUI has none of that name.
    """
    kinds = comfy.sd.CLIPType
    if name not in kinds.__members__:
        raise InputError(
            f"This ComfyUI does not know text encoders of the type '{name}'.",
            "Update ComfyUI, or choose another clip_type.",
        )
    return kinds[name]


def _remember_file(vae: Any, path: str, metadata: Any) -> None:
    """Say where the weights come from, as ComfyUI's own loader does, for nodes that make copies."""
    factory = getattr(comfy.sd, "load_vae_patcher", None)  # since ComfyUI 0.24
    patcher = getattr(vae, "patcher", None)
    if factory is not None and patcher is not None:
        patcher.cached_patcher_init = (factory, (path, metadata, None))


def _lacks(file: ModelFile, what: str) -> ModelFileError:
    return ModelFileError(
        f"ComfyUI finds no {what} that it knows in '{file.name}'.", "Choose another file."
    )
