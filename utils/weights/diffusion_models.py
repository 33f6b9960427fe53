"""Checkpoints and diffusion models: their family, and what is baked into a checkpoint.

A checkpoint is several models in one file, each under a prefix of its own. Sources: the layouts that
the reference implementations of the families published, and ComfyUI's for its all-in-one files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .contents import Contents, FileKind, Shapes
from .text_encoders import encoder_kind

_MODEL_PREFIX = "model.diffusion_model."
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


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    fits: Callable[[Shapes], bool]


def _context_width(shapes: Shapes) -> int:
    """Return the width of the text that a U-Net's cross-attention takes; 0 when there is none."""
    for name, shape in shapes.items():
        if name.endswith("attn2.to_k.weight") and len(shape) == 2:
            return shape[1]
    return 0


def _is_unet(shapes: Shapes) -> bool:
    return "input_blocks.0.0.weight" in shapes or "conv_in.weight" in shapes


def _unet_for(width: int) -> Callable[[Shapes], bool]:
    return lambda shapes: _is_unet(shapes) and _context_width(shapes) == width


def _has(
    *names: str | tuple[str, ...], rows: int | None = None, without: Iterable[str] = ()
) -> Callable[[Shapes], bool]:
    """Know a model by tensors that it has and has not, and the first dimension of the first of them.

    Where several names stand for one tensor, one of them is enough.
    """
    has = [(name,) if isinstance(name, str) else name for name in names]

    def fits(shapes: Shapes) -> bool:
        return (
            all(any(name in shapes for name in either) for either in has)
            and (rows is None or shapes[has[0][0]][:1] == (rows,))
            and not any(name in shapes for name in without)
        )

    return fits


_FLUX_NORM = "double_blocks.0.img_attn.norm.key_norm."
_FLUX_KEY = (f"{_FLUX_NORM}scale", f"{_FLUX_NORM}weight")  # as published; as ComfyUI saves it
_FAMILIES = (
    _Family("SD3", _has("joint_blocks.0.context_block.attn.qkv.weight")),
    _Family(
        "Flux",
        _has(
            *("img_in.weight", _FLUX_KEY, "vector_in.in_layer.weight"),
            # Relatives of Flux that take other text encoders: Flux 2, Chroma, HunyuanVideo.
            without=(
                "double_stream_modulation_img.lin.weight",
                "distilled_guidance_layer.in_proj.weight",
                "txt_in.individual_token_refiner.blocks.0.norm1.weight",
            ),
        ),
    ),
    _Family(
        "Z-IMAGE",
        _has("cap_embedder.1.weight", "noise_refiner.0.attention.k_norm.weight", rows=3840),
    ),
    _Family("SDXL", _unet_for(2048)),
    _Family("SD1.5", _unet_for(768)),
    _Family("Other", _is_unet),
    _Family("Other", _has(_FLUX_KEY)),
    _Family("Other", _has("cap_embedder.1.weight")),
    _Family("Other", _has("blocks.0.self_attn.q.weight", "patch_embedding.weight")),
    _Family("Other", _has("transformer_blocks.0.attn.to_q.weight")),
)


def detect_checkpoint(shapes: Shapes) -> Contents | None:
    """Know a file whose diffusion model lies under the prefix of checkpoints."""
    model = _below(_MODEL_PREFIX, shapes)
    if not model:
        return None
    encoders = _baked_encoders(shapes)
    has_vae = any(_below(prefix, shapes) for prefix in _VAE_PREFIXES)
    family = _family_of(model) or "Other"
    if not encoders and not has_vae:
        return Contents(FileKind.DIFFUSION_MODEL, family)
    return Contents(FileKind.CHECKPOINT, family, baked_encoders=encoders, has_vae=has_vae)


def detect_diffusion_model(shapes: Shapes) -> Contents | None:
    """Know a file that holds a diffusion model and nothing else."""
    family = _family_of(shapes)
    return Contents(FileKind.DIFFUSION_MODEL, family) if family else None


def _family_of(shapes: Shapes) -> str:
    return next((family.name for family in _FAMILIES if family.fits(shapes)), "")


def _baked_encoders(shapes: Shapes) -> tuple[str, ...]:
    found = []
    for prefix, kind in _ENCODER_PREFIXES.items():
        part = _below(prefix, shapes)
        if part:
            found.append(kind or encoder_kind(part) or "other")
    for name in sorted({key.split(".")[1] for key in shapes if key.startswith(_ALL_IN_ONE)}):
        found.append(name if name in _NAMES_IN_ONE else "other")
    return tuple(dict.fromkeys(found))


def _below(prefix: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }
