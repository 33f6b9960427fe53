"""Opens models in the daemon as ComfyUI objects."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.sd
import comfy.utils
import torch

from ...utils.model_types import ModelKind
from ..encoders_inside import read_encoders
from ..gguf_models.loading import load_gguf_clip
from ..gguf_models.reading import is_gguf
from ..protocol.messages import ModelPart
from . import builders
from .clip import DaemonCLIP, adopt_clip
from .clip_vision import DaemonClipVision, adopt_clip_vision
from .errors import NotASkeletonError
from .local import bring_here
from .models import DaemonModels
from .skeleton import Origin, Skeleton
from .vae import DaemonVAE, adopt_vae

AnyPath = str | os.PathLike[str]


def open_clip(  # noqa: PLR0913  (choices by keyword, of a public function)
    models: DaemonModels,
    files: Sequence[AnyPath],
    clip_type: str | Any,
    *,
    dtype: torch.dtype | None = None,
    checkpoint: bool = False,
    inside: Sequence[str] = (),
    embedding_directory: Any = None,
) -> DaemonCLIP:
    """Return a CLIP whose text encoders the daemon holds.

    Args:
        models: The workflow's claims.
        files: The text encoders' files in ComfyUI's order, or one checkpoint.
        clip_type: A name of comfy.sd.CLIPType, or a member; a checkpoint says its own.
        dtype: Type of the weights; default: what this ComfyUI chooses.
        checkpoint: The file is a checkpoint with text encoders in it.
        inside: For each file the role of the encoder to take out of it, or "" where it is the encoder;
            empty: all are encoders.
        embedding_directory: Where this ComfyUI looks for textual inversions.

    Raises:
        NotASkeletonError: Such text encoders have to be loaded here.
        ModelFileError: A file is missing or damaged.
        DaemonError: What the daemon says to it.
    """
    paths = [_path(file) for file in files]
    type_name = clip_type if isinstance(clip_type, str) else str(clip_type.name)
    weights = dtype or builders.te_dtype()
    how = {"clip_type": type_name, **_checkpoint(checkpoint)}
    if any(inside):
        how["inside"] = ",".join(inside)

    def build() -> Any:
        if checkpoint:
            return builders.build_checkpoint_clip(paths[0], weights, embedding_directory)
        return builders.build_clip(paths, type_name, weights, embedding_directory, inside)

    def load() -> tuple[torch.nn.Module, Any]:
        clip = _load_real_clip(paths, dtype, how, embedding_directory)
        return clip.cond_stage_model, clip.patcher

    options = {**how, "dtype": _dtype_name(weights)}
    origin = Origin(
        kind="clip",
        title=_title("the text encoder", paths),
        part=_part("clip", paths, options),
        bring_here=partial(bring_here, load),
        build=lambda models: adopt(models).cond_stage_model,
    )

    def adopt(models: DaemonModels) -> DaemonCLIP:
        clip = build()
        return adopt_clip(clip, Skeleton(origin, models, clip.cond_stage_model))

    return adopt(models)


def open_vae(models: DaemonModels, file: AnyPath, *, checkpoint: bool = False) -> DaemonVAE:
    """Return a VAE that the daemon holds.

    Args:
        models: The workflow's claims.
        file: The VAE's file, or a checkpoint.
        checkpoint: The file is a checkpoint with a VAE in it.

    Raises:
        NotASkeletonError: Such a VAE has to be loaded here.
        ModelFileError: The file is missing or damaged.
        DaemonError: What the daemon says to it.
    """
    path = _path(file)
    build = builders.build_checkpoint_vae if checkpoint else builders.build_vae

    def load() -> tuple[torch.nn.Module, Any]:
        vae = _load_real_vae(str(path), checkpoint)
        return vae.first_stage_model, vae.patcher

    def adopt(models: DaemonModels) -> DaemonVAE:
        vae = build(path)
        options = {"dtype": _dtype_name(vae.vae_dtype), **_checkpoint(checkpoint)}
        origin = Origin(
            kind="vae",
            title=_title("the VAE", [path]),
            part=_part("vae", [path], options),
            bring_here=partial(bring_here, load),
            build=lambda models: adopt(models).first_stage_model,
        )
        return adopt_vae(vae, Skeleton(origin, models, vae.first_stage_model))

    return adopt(models)


def open_clip_vision(models: DaemonModels, file: AnyPath) -> DaemonClipVision:
    """Return a CLIP vision model that the daemon holds.

    Raises:
        NotASkeletonError: Such a model has to be loaded here.
        ModelFileError: The file is missing or damaged.
        DaemonError: What the daemon says to it.
    """
    path = _path(file)

    def load() -> tuple[torch.nn.Module, Any]:
        with builders.plain_patchers():
            real = comfy.clip_vision.load(str(path))
        return real.model, real.patcher

    def adopt(models: DaemonModels) -> DaemonClipVision:
        model = builders.build_clip_vision(path)
        origin = Origin(
            kind="clip_vision",
            title=_title("the CLIP vision model", [path]),
            part=_part("clip_vision", [path], {"dtype": _dtype_name(model.dtype)}),
            bring_here=partial(bring_here, load),
            build=lambda models: adopt(models).model,
        )
        return adopt_clip_vision(model, Skeleton(origin, models, model.model))

    return adopt(models)


def _load_real_clip(
    paths: Sequence[Path],
    dtype: torch.dtype | None,
    how: Mapping[str, str],
    embedding_directory: Any,
) -> Any:
    options = {"dtype": dtype} if dtype is not None else {}
    files = [str(path) for path in paths]
    with builders.plain_patchers():
        if "checkpoint" in how:
            return comfy.sd.load_checkpoint_guess_config(
                files[0],
                output_vae=False,
                output_model=False,
                embedding_directory=embedding_directory,
                te_model_options=options,
            )[1]
        kind = builders.clip_type_named(how["clip_type"])
        inside = how["inside"].split(",") if "inside" in how else None
        if any(is_gguf(Path(file)) for file in files):
            return load_gguf_clip(files, embedding_directory, kind, options, inside)
        if inside is not None:
            return comfy.sd.load_text_encoder_state_dicts(
                read_encoders(files, inside),
                embedding_directory=embedding_directory,
                clip_type=kind,
                model_options=options,
            )
        return comfy.sd.load_clip(
            files,
            embedding_directory=embedding_directory,
            clip_type=kind,
            model_options=options,
        )


def _load_real_vae(file: str, checkpoint: bool) -> Any:
    with builders.plain_patchers():
        if checkpoint:
            return comfy.sd.load_checkpoint_guess_config(
                file, output_clip=False, output_model=False
            )[2]
        tensors, metadata = comfy.utils.load_torch_file(file, return_metadata=True)
        return comfy.sd.VAE(
            sd=tensors, **builders.accepted(comfy.sd.VAE.__init__, metadata=metadata)
        )


def _path(file: AnyPath) -> Path:
    path = Path(file)
    if not path.is_absolute():
        raise NotASkeletonError(
            f"'{path}' is no file: ComfyUI puts it together from several, or from none."
        )
    return path


def _part(kind: ModelKind, paths: Sequence[Path], options: dict[str, str]) -> ModelPart:
    return ModelPart(kind=kind, files=tuple(str(path) for path in paths), options=options)


def _title(what: str, paths: Sequence[Path]) -> str:
    return f"{what} '{' + '.join(dict.fromkeys(path.name for path in paths))}'"


def _checkpoint(is_one: bool) -> dict[str, str]:
    return {"checkpoint": "1"} if is_one else {}


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
