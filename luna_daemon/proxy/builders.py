"""ComfyUI objects built by ComfyUI's own constructors, from file headers: every weight on `meta`.

Releases differ in what these constructors take and do; nothing here asks for a version, only for what a
function accepts.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import torch

from ..encoders_inside import encoder_tensors
from .errors import NotASkeletonError
from .header import StateDict, read_header_state_dict

META = torch.device("meta")
# What a skeleton may hold for real; more means that a class ignores the device it is told.
REAL_BYTES_MAX = 4 * 1024**2
_IGNORE_THE_DEVICE = {"HUNYUAN_DIT"}
_NOT_A_PLAIN_VAE = {
    "gs.base_offset_scale": "a TripoSplat decoder, which is not called as a VAE",
    "decoder.unpatcher3d.wavelets": "a Cosmos VAE, which computes while it is built",
    "vocoder.backbone.channel_layers.0.0.bias": "an ACE-Step VAE, which computes while it is built",
}
_COPIES_TO_META = ".*copying from a non-meta parameter.*"
_names_lock = threading.RLock()


def te_dtype() -> torch.dtype:
    """Return the type that this ComfyUI would keep text encoders in."""
    device = comfy.model_management.text_encoder_device()
    dtype: torch.dtype = comfy.model_management.text_encoder_dtype(device)
    return dtype


def clip_type_named(name: str) -> Any:
    """Return a member of ComfyUI's CLIPType.

    Raises:
        NotASkeletonError: This release of ComfyUI does not have it.
    """
    found = getattr(comfy.sd.CLIPType, name, None)
    if found is None:
        raise NotASkeletonError(f"This release of ComfyUI has no text encoder type '{name}'.")
    return found


def build_clip(
    files: Sequence[Path],
    clip_type: str,
    dtype: torch.dtype,
    embedding_directory: Any,
    inside: Sequence[str] = (),
) -> Any:
    """Return a comfy.sd.CLIP on `meta` from the files of its text encoders.

    `inside`: for each file the role of the encoder to take out of it, or ""; empty: none is a checkpoint.
    """
    if clip_type in _IGNORE_THE_DEVICE:
        raise NotASkeletonError(
            f"ComfyUI builds text encoders of the type {clip_type} in memory, whatever it is told."
        )
    kind = clip_type_named(clip_type)
    with _on_meta(files):
        clip = comfy.sd.load_text_encoder_state_dicts(
            [
                _text_encoder_tensors(file, role)
                for file, role in zip(files, inside or [""] * len(files), strict=True)
            ],
            embedding_directory=embedding_directory,
            clip_type=kind,
            model_options=_te_options(dtype),
            **accepted(comfy.sd.load_text_encoder_state_dicts, disable_dynamic=True),
        )
    _check_is_meta(clip.cond_stage_model, files)
    return clip


def build_checkpoint_clip(file: Path, dtype: torch.dtype, embedding_directory: Any) -> Any:
    """Return the comfy.sd.CLIP of a checkpoint on `meta`."""
    clip = _build_from_checkpoint(
        file,
        output_vae=False,
        embedding_directory=embedding_directory,
        te_model_options=_te_options(dtype),
    )[1]
    if clip is None:
        raise NotASkeletonError(f"'{file.name}' holds no text encoder.")
    _check_is_meta(clip.cond_stage_model, (file,))
    return clip


def build_vae(file: Path) -> Any:
    """Return a comfy.sd.VAE on `meta` from a file of its own."""
    tensors, metadata = read_header_state_dict(file)
    _check_is_plain_vae(tensors, file)
    with _on_meta((file,)), META:
        vae = comfy.sd.VAE(sd=tensors, **accepted(comfy.sd.VAE.__init__, metadata=metadata))
    return _checked_vae(vae, file, tensors)


def build_checkpoint_vae(file: Path) -> Any:
    """Return the comfy.sd.VAE of a checkpoint on `meta`."""
    vae = _build_from_checkpoint(file, output_clip=False, under=META)[2]
    return _checked_vae(vae, file, {})


def build_clip_vision(file: Path) -> Any:
    """Return a comfy.clip_vision.ClipVisionModel on `meta`."""
    tensors, _ = read_header_state_dict(file)
    is_open_clip = "visual.transformer.resblocks.0.attn.in_proj_weight" in tensors
    layout = {"prefix": "visual.", "convert_keys": True} if is_open_clip else {}
    offload_device = comfy.model_management.text_encoder_offload_device()
    # Some parts are built on the default device, the others where they are kept while not in use.
    with (
        _on_meta((file,)),
        META,
        _standing_in(comfy.model_management, "text_encoder_offload_device", lambda: META),
    ):
        model = comfy.clip_vision.load_clipvision_from_sd(tensors, **layout)
    if model is None:
        raise NotASkeletonError(f"'{file.name}' holds no CLIP vision model that ComfyUI knows.")
    _check_is_meta(model.model, (file,))
    model.patcher.offload_device = model.model.device = offload_device
    return model


@contextlib.contextmanager
def plain_patchers() -> Iterator[None]:
    """Let ComfyUI make plain model patchers: the dynamic ones take memory as soon as they are made."""
    with _standing_in(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher):
        yield


@contextlib.contextmanager
def _standing_in(module: Any, name: str, value: Any) -> Iterator[None]:
    """Let a name of a module mean something else, as long as this lasts."""
    with _names_lock:
        usual = getattr(module, name, None)
        if usual is not None:  # what a release does not have, it does not use
            setattr(module, name, value)
        try:
            yield
        finally:
            if usual is not None:
                setattr(module, name, usual)


@contextlib.contextmanager
def _on_meta(files: Sequence[Path]) -> Iterator[None]:
    """Build in here; what cannot be built without values becomes a NotASkeletonError."""
    names = ", ".join(file.name for file in files)
    try:
        with warnings.catch_warnings(), plain_patchers():
            warnings.filterwarnings("ignore", message=_COPIES_TO_META)
            yield
    except (NotImplementedError, RuntimeError, TypeError) as error:
        # torch's words for a value that a meta tensor does not have.
        if "meta" not in str(error).lower():
            raise
        raise NotASkeletonError(
            f"'{names}' cannot be built without its weights: {error}"
        ) from error


def _build_from_checkpoint(
    file: Path,
    under: contextlib.AbstractContextManager[Any] | None = None,
    **wanted: Any,
) -> Any:
    tensors, metadata = read_header_state_dict(file)
    build = comfy.sd.load_state_dict_guess_config
    with _on_meta((file,)), under or contextlib.nullcontext():
        built = build(
            tensors,
            **wanted,
            output_model=False,
            **accepted(build, metadata=metadata, disable_dynamic=True),
        )
    if built is None:
        raise NotASkeletonError(f"'{file.name}' is no checkpoint that ComfyUI knows.")
    return built


def _text_encoder_tensors(file: Path, inside: str) -> StateDict:
    tensors, metadata = read_header_state_dict(file)
    if inside:
        return encoder_tensors(tensors, metadata, inside, file.name)
    if hasattr(comfy.utils, "convert_old_quants"):
        tensors, _ = comfy.utils.convert_old_quants(tensors, model_prefix="", metadata=metadata)
    return tensors


def _te_options(dtype: torch.dtype) -> dict[str, Any]:
    # Its load device is the CPU: so nothing in this process is moved out of VRAM to make room for it.
    cpu = torch.device("cpu")
    return {"initial_device": META, "load_device": cpu, "offload_device": cpu, "dtype": dtype}


def accepted(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Return those of the options that a function of this release takes."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in parameters}


def _check_is_plain_vae(tensors: StateDict, file: Path) -> None:
    for key, what in _NOT_A_PLAIN_VAE.items():
        if key in tensors:
            raise NotASkeletonError(f"'{file.name}' is {what}.")


def _checked_vae(vae: Any, file: Path, tensors: StateDict) -> Any:
    model = getattr(vae, "first_stage_model", None)
    if model is None:
        raise NotASkeletonError(f"'{file.name}' holds no VAE that ComfyUI knows.")
    _check_is_meta(model, (file,))
    # Some nodes compute with a VAE's statistics themselves; they are small.
    for name, buffer in list(model.named_buffers()):
        real = tensors.get(name)
        if real is not None and not real.is_meta and real.shape == buffer.shape:
            parent, _, key = name.rpartition(".")
            model.get_submodule(parent)._buffers[key] = real.to(buffer.dtype)
    return vae


def _check_is_meta(model: torch.nn.Module, files: Sequence[Path]) -> None:
    tensors = (*model.parameters(), *model.buffers())
    nbytes = sum(tensor.nbytes for tensor in tensors if not tensor.is_meta)
    if nbytes > REAL_BYTES_MAX:
        names = ", ".join(file.name for file in files)
        raise NotASkeletonError(
            f"ComfyUI builds '{names}' in memory ({nbytes // 1024**2} MB), whatever it is told."
        )
