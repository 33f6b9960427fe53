"""Checkpoints and diffusion models: their family, and what is baked into a checkpoint.

A checkpoint is several models in one file, each under a prefix of its own. Sources: the layouts that
the reference implementations of the families published, and ComfyUI's for its all-in-one files.
"""

from __future__ import annotations

from ..model_types import KINDS_OF_ROLE
from .contents import Contents, FileKind, Shapes
from .families import describe_model
from .text_encoders import encoder_kind

MODEL_PREFIX = "model.diffusion_model."
# Where other files have a diffusion model, which is then alone: Cosmos, models of sound, AuraFlow and more.
_OTHER_PREFIXES = ("net.", "model.model.", "model.")
_VAE_PREFIXES = ("first_stage_model.", "vae.")

# Where checkpoints have text encoders: prefix → kind, "" to look at the tensors below the prefix.
_ENCODER_PREFIXES = {
    "cond_stage_model.transformer.": "",
    "cond_stage_model.model.": "clip_h",  # OpenCLIP's layout, SD 2
    "conditioner.embedders.0.transformer.": "",
    "conditioner.embedders.0.model.": "clip_g",  # OpenCLIP's layout, the SDXL refiner
    "conditioner.embedders.1.model.": "clip_g",
}
_ALL_IN_ONE = "text_encoders."  # then the encoder's name, then "transformer."
_NAMES_IN_ONE = ("clip_l", "clip_g", "clip_h", "t5xxl", "qwen3_4b")


def model_prefix(shapes: Shapes) -> str:
    """Return what the names of the diffusion model's tensors begin with in a file; mostly nothing."""
    if _below(MODEL_PREFIX, shapes):
        return MODEL_PREFIX
    if describe_model(shapes) is not None:
        return ""
    below = (prefix for prefix in _OTHER_PREFIXES if describe_model(_below(prefix, shapes)))
    return next(below, "")


def detect_checkpoint(shapes: Shapes) -> Contents | None:
    """Know a file whose diffusion model lies under the prefix of checkpoints."""
    model = _below(MODEL_PREFIX, shapes)
    if not model:
        return None
    encoders = _baked_encoders(shapes)
    has_vae = any(_below(prefix, shapes) for prefix in _VAE_PREFIXES)
    known = describe_model(model)
    family = known.family if known else "Other"
    if not encoders and not has_vae:
        return Contents(FileKind.DIFFUSION_MODEL, family)
    return Contents(FileKind.CHECKPOINT, family, baked_encoders=encoders, has_vae=has_vae)


def detect_diffusion_model(shapes: Shapes) -> Contents | None:
    """Know a file that holds a diffusion model and nothing else."""
    model = describe_model(_below(model_prefix(shapes), shapes))
    return Contents(FileKind.DIFFUSION_MODEL, model.family) if model else None


def _baked_encoders(shapes: Shapes) -> tuple[str, ...]:
    found = []
    for prefix, kind in _ENCODER_PREFIXES.items():
        part = _below(prefix, shapes)
        if part:
            found.append(kind or encoder_kind(part) or "other")
    for name in sorted({key.split(".")[1] for key in shapes if key.startswith(_ALL_IN_ONE)}):
        found.append(name if name in _NAMES_IN_ONE else "other")
    return tuple(dict.fromkeys(found))


def baked_parts(shapes: Shapes) -> dict[str, str]:
    """Return the text encoders and the VAE inside a checkpoint: kind, or "vae" → what their names begin with."""
    prefixes = [prefix for prefix in _ENCODER_PREFIXES if _below(prefix, shapes)]
    names = sorted({key.split(".")[1] for key in shapes if key.startswith(_ALL_IN_ONE)})
    prefixes += [f"{_ALL_IN_ONE}{name}.transformer." for name in names]
    parts: dict[str, str] = {}
    for prefix in prefixes:
        kind = _ENCODER_PREFIXES.get(prefix) or encoder_kind(_below(prefix, shapes))
        parts.setdefault(kind or f"text_encoder_{len(parts) + 1}", prefix)
    vae = next((prefix for prefix in _VAE_PREFIXES if _below(prefix, shapes)), "")
    return {**parts, "vae": vae} if vae else parts


def prefixes_of_encoder(role: str) -> tuple[str, ...]:
    """Return how a checkpoint's names of a text encoder may begin."""
    kinds = KINDS_OF_ROLE.get(role, (role,))
    known = [prefix for prefix, kind in _ENCODER_PREFIXES.items() if (kind or "clip_l") in kinds]
    return (*known, *(f"{_ALL_IN_ONE}{kind}." for kind in kinds))


def _below(prefix: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }
