"""From what a client calls a part of ComfyUI to its files, and to the key that identifies its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ..utils.model_types import POOL_OF_ROLE, VAE_ROLE, find_model_type
from ..utils.weights.diffusion_models import prefixes_of_encoder
from ..utils.weights.gguf_header import GgufHeader
from ..utils.weights.safetensors_header import SafetensorsHeader
from .errors import BadRequestError, DaemonError
from .model_locator import GGUF, ModelLocator, files_key, read_header
from .protocol.messages import ModelPart
from .protocol.worker_messages import ModelSpec

# Raise it when the comfy engine starts to read the same files differently.
LOADER_VERSION = 1
NUMERICS = "numerics"  # among a spec's options: the settings that its key was made with
CLIP_TYPE = "clip_type"
INSIDE = "inside"
AUTO = "auto"  # no element type is wanted
CLIP_PART = "clip"  # the role of the text encoders of a script's workflow, together
_SAFE = (".safetensors", ".sft")
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_TEXT_DTYPE_OF_FLAG = {
    "fp8_e4m3fn_text_enc": "float8_e4m3fn",
    "fp8_e5m2_text_enc": "float8_e5m2",
    "fp16_text_enc": "float16",
    "bf16_text_enc": "bfloat16",
    "fp32_text_enc": "float32",
}
# Where a checkpoint has its text encoders and its VAE.
_PREFIXES = {
    "clip": ("cond_stage_model.", "conditioner.", "text_encoders."),
    "vae": ("first_stage_model.", "vae."),
    "clip_vision": ("",),
}


def part_spec(
    locator: ModelLocator, role: str, part: ModelPart, numerics: str, clip_precision: str = AUTO
) -> ModelSpec:
    """Return what to load for a part.

    Args:
        locator: Knows the roots.
        role: The client's name of the part.
        part: Its kind, files and options.
        numerics: The digest of the settings that the workers run with; part of the key.
        clip_precision: fp32: the worker holds a text encoder's weights in fp32, once they have the values
            that the client's ComfyUI gives them. Anything else: as there. Part of the key.

    Raises:
        NotFoundError: A file is not below the roots.
        BadRequestError: A file is of a format that is not opened, or damaged.
    """
    if part.kind != "clip" and len(part.files) != 1:
        raise BadRequestError(f"The {part.kind} '{role}' must be made of one file.")
    paths = [_file(locator, role, part, name) for name in part.files]
    headers = {path: read_header(role, path) for path in paths}
    options = {**part.options, NUMERICS: numerics}
    if CLIP_TYPE in options:  # nodes write it small, ComfyUI's own table in capitals
        options[CLIP_TYPE] = options[CLIP_TYPE].upper()
    dtype = part.options.get("dtype", "")
    held_as = _DTYPES["fp32"] if part.kind == "clip" and clip_precision == "fp32" else dtype
    loader = f"comfy/{LOADER_VERSION}/{part.kind}/{sorted(options.items())!r}"
    if held_as != dtype:
        loader += f"/held as {held_as}"
    return ModelSpec(
        key=files_key(loader, paths, headers),
        role=role,
        path=str(paths[0]),
        precision=held_as or AUTO,
        nbytes=sum(
            _size_in_memory(held_as, headers[path], prefixes)
            for path, prefixes in zip(paths, _prefixes(part), strict=True)
        ),
        kind=part.kind,
        more_paths=tuple(str(path) for path in paths[1:]),
        options=options,
    )


def is_unchanged(locator: ModelLocator, spec: ModelSpec) -> bool:
    """Are the files that a part's key was made of still the same?"""
    assert spec.kind is not None, "only parts have a kind"
    options = dict(spec.options)
    numerics = options.pop(NUMERICS)
    precision = AUTO if spec.precision == (options.get("dtype", "") or AUTO) else "fp32"
    part = ModelPart(kind=spec.kind, files=(spec.path, *spec.more_paths), options=options)
    try:
        return part_spec(locator, spec.role, part, numerics, precision).key == spec.key
    except (DaemonError, OSError):  # gone, or no longer readable
        return False


def parts_of_models(
    models: Mapping[str, str],
    model_type: str,
    precisions: Mapping[str, str],
    numerics: Mapping[str, str],
) -> tuple[dict[str, ModelPart], dict[str, str]]:
    """Turn the models that a script names by role into parts of ComfyUI.

    Args:
        models: role (clip_l, clip_g, vae) → file.
        model_type: The family, which says in which order text encoders belong together.
        precisions: pool → fp32, fp16, bf16, or anything else for ComfyUI's own choice.
        numerics: The settings that the workers run with.

    Returns:
        The parts by their roles, and for each role of `models` that of its part.
    """
    parts: dict[str, ModelPart] = {}
    roles: dict[str, str] = {}
    encoders = [role for role in find_model_type(model_type).text_encoders if role in models]
    if encoders:
        files = tuple(models[role] for role in encoders)
        # Named even when ComfyUI would choose it, so that its own clients share the weights.
        # fp32 is what `part_spec` does with all of them.
        wanted = AUTO if precisions["clip"] == "fp32" else precisions["clip"]
        dtype = _dtype(wanted) or {"dtype": _text_dtype(numerics)}
        options = {CLIP_TYPE: "STABLE_DIFFUSION", **dtype}
        parts[CLIP_PART] = ModelPart(kind="clip", files=files, options=options)
        roles.update(dict.fromkeys(encoders, CLIP_PART))
    if VAE_ROLE in models:
        options = _dtype(precisions[POOL_OF_ROLE[VAE_ROLE]])
        parts[VAE_ROLE] = ModelPart(kind="vae", files=(models[VAE_ROLE],), options=options)
        roles[VAE_ROLE] = VAE_ROLE
    return parts, roles


def _text_dtype(numerics: Mapping[str, str]) -> str:
    """Return the element type that ComfyUI chooses for text encoders with these settings."""
    for flag, dtype in _TEXT_DTYPE_OF_FLAG.items():
        if flag in numerics:
            return dtype
    return "float16"


def _dtype(precision: str) -> dict[str, str]:
    return {"dtype": _DTYPES[precision]} if precision in _DTYPES else {}


def _is_checkpoint(part: ModelPart) -> bool:
    return part.options.get("checkpoint") == "1"


def _file(locator: ModelLocator, role: str, part: ModelPart, name: str) -> Path:
    path = locator.resolve(role, name)
    if path.is_dir():
        raise BadRequestError(
            f"'{path.name}' for '{role}' is a folder, but ComfyUI loads single files.",
            "Choose a .safetensors file, or start the daemon with engine=hf for folders in diffusers' layout.",
        )
    is_gguf = path.suffix.lower() == GGUF
    if is_gguf and (part.kind != "clip" or _is_checkpoint(part)):
        raise BadRequestError(
            f"'{path.name}' for '{role}' is a GGUF file; of those the daemon opens text encoders only.",
            "Choose a .safetensors file of the same model.",
        )
    if path.suffix.lower() not in _SAFE and not is_gguf:
        raise BadRequestError(
            f"'{path.name}' for '{role}' is not a .safetensors file. Other formats can run code when they "
            "are opened, and the daemon does not open them.",
            "Convert it to .safetensors, or set daemon_mode to 'force_local' to load it in ComfyUI itself.",
        )
    return path


def _prefixes(part: ModelPart) -> list[tuple[str, ...]]:
    """Return for each file how the names of what is taken from it begin."""
    if _is_checkpoint(part):
        return [_PREFIXES[part.kind]]
    roles = part.options.get(INSIDE, "," * (len(part.files) - 1)).split(",")
    if len(roles) != len(part.files):
        raise BadRequestError(
            f"The option '{INSIDE}' speaks of {len(roles)} files, and there are {len(part.files)}."
        )
    return [prefixes_of_encoder(role) if role else ("",) for role in roles]


def _size_in_memory(
    held_as: str, header: SafetensorsHeader | GgufHeader, prefixes: tuple[str, ...]
) -> int:
    if isinstance(header, GgufHeader):
        return header.total_bytes  # its weights stay as they are
    tensors = {name: found for name, found in header.tensors.items() if name.startswith(prefixes)}
    item = _BYTES.get(held_as)
    return sum(
        stored.end - stored.begin if item is None else math.prod(stored.shape) * item
        for stored in tensors.values()
    )
