"""Diffusion models and text encoders from GGUF files, as ComfyUI's own loaders would give them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import comfy.sd
import torch

from ...utils.errors import ModelFileError
from ...utils.weights.gguf_header import read_gguf_header
from ..encoders_inside import read_encoders
from .assigning import assigned_weights, finish
from .operations import Operations, fill_what_is_missing
from .patching import KeepsQuantised, values_of
from .reading import StateDict, read_gguf

_VISION = "visual."  # how the weights of a Qwen-VL's image encoder begin


class GgufModelPatcher(KeepsQuantised):
    """The patcher of a model that ComfyUI runs in its own process."""


def load_gguf_model(path: str, model_options: dict[str, Any] | None = None, **_: Any) -> Any:
    """Return a MODEL whose weights stay as they are in the file; None where ComfyUI knows no such model.

    Args:
        path: The GGUF file.
        model_options: As ComfyUI's load_diffusion_model takes them, such as `dtype`.

    Raises:
        ModelFileError: The file is missing, damaged, or has weights of a type that cannot be used.
    """
    load = comfy.sd.load_diffusion_model_state_dict
    options = {**(model_options or {}), "custom_operations": Operations}
    more = _accepted(load, disable_dynamic=True, metadata=_texts(Path(path)))
    patcher = load(read_gguf(Path(path)), model_options=options, **more)
    if patcher is None:
        return None
    fill_what_is_missing(patcher.model)
    patcher.__class__, patcher.size = GgufModelPatcher, 0  # older releases have counted the values
    _save_values(patcher.model)
    # How nodes that make copies of a model load it again; they say that it shall not be a dynamic one.
    patcher.cached_patcher_init = (load_gguf_model, (path, model_options))
    return patcher


def _save_values(model: Any) -> None:
    """Let a model be saved as values; how ComfyUI's patcher gathers the weights for that differs."""
    gather = model.state_dict_for_saving

    def state_dict_for_saving(*given: Any, **named: Any) -> StateDict:
        return values_of(gather(*given, **named))

    model.state_dict_for_saving = state_dict_for_saving


def load_gguf_clip(
    paths: Sequence[str],
    embedding_directory: Any = None,
    clip_type: Any = comfy.sd.CLIPType.STABLE_DIFFUSION,
    model_options: dict[str, Any] | None = None,
    inside: Sequence[str] | None = None,
) -> Any:
    """Return a CLIP of text encoders of which some come from GGUF files.

    Args:
        paths: Files, and the rest as ComfyUI's load_clip takes it.
        embedding_directory: Where textual inversions are.
        clip_type: A member of comfy.sd.CLIPType.
        model_options: Such as `dtype`.
        inside: For each file the role of the encoder to take out of it, or "" where it is the encoder.

    Raises:
        ModelFileError: A GGUF file is missing, damaged, or no text encoder that ComfyUI can use.
    """
    tensors = read_encoders(paths, inside or [""] * len(paths))
    clip = clip_of_tensors(tensors, embedding_directory, clip_type, model_options)
    again = (list(paths), embedding_directory, clip_type, model_options, inside)
    clip.patcher.cached_patcher_init = (load_gguf_clip_patcher, again)
    return clip


def clip_of_tensors(
    tensors: list[StateDict],
    embedding_directory: Any,
    clip_type: Any,
    model_options: dict[str, Any] | None = None,
) -> Any:
    """Return a CLIP of text encoders that were read already, of which some are from GGUF files.

    Args:
        tensors: The encoders, named as in files of their own; their weights become the CLIP's.
        embedding_directory: Where textual inversions are.
        clip_type: A member of comfy.sd.CLIPType.
        model_options: Such as `dtype`.
    """
    names = names_of(tensors)
    with assigned_weights(torch.float32, GgufModelPatcher):
        clip = comfy.sd.load_text_encoder_state_dicts(
            tensors,
            embedding_directory=embedding_directory,
            clip_type=clip_type,
            # What comes from the file is in RAM; ComfyUI brings it to the device when it is used.
            model_options={"initial_device": torch.device("cpu"), **(model_options or {})},
        )
    finish(clip.patcher, GgufModelPatcher)
    refuse_images_without_encoder(clip.cond_stage_model, names)
    return clip


def names_of(tensors: Sequence[Mapping[str, torch.Tensor]]) -> frozenset[str]:
    """Return the names of weights in files, before ComfyUI's loader changes them."""
    return frozenset(name for table in tensors for name in table)


def refuse_images_without_encoder(root: torch.nn.Module, names: Collection[str]) -> None:
    """Let a text encoder that can see say so when it is shown an image and has no weights for that.

    llama.cpp keeps the image encoder in a file of its own, and ComfyUI would compute with whatever is in memory.
    """
    if any(_VISION in name for name in names):
        return
    for name, module in root.named_modules():
        if name.endswith(_VISION[:-1]):
            module.register_forward_pre_hook(_refuse_image)


def _refuse_image(*_: Any) -> None:
    raise ModelFileError(
        "The text encoder was loaded from a GGUF file, which holds no image encoder, so it cannot look at images.",
        "Choose the safetensors file of the same text encoder.",
    )


def load_gguf_clip_patcher(*arguments: Any, **_: Any) -> Any:
    """Return the patcher of `load_gguf_clip`: how nodes that make copies of a CLIP load it again."""
    return load_gguf_clip(*arguments).patcher


def _texts(path: Path) -> dict[str, str]:
    """Return what a file says of itself, as ComfyUI has it of safetensors files: LTX-Video's settings are there."""
    metadata = read_gguf_header(path).metadata
    return {key: value for key, value in metadata.items() if isinstance(value, str)}


def _accepted(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in parameters}
