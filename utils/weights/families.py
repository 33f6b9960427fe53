"""Families of diffusion models: one table, each known by a few of its tensors.

A row stands before those whose tensors it has too. Sources: the layouts that the reference implementations
published, diffusers', and the names of architectures that ComfyUI's loaders of GGUF files know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .contents import Shapes


@dataclass(frozen=True, slots=True)
class _Family:
    """A family of models.

    Attributes:
        name: As the nodes call it; "Other" where they have no type of its own for it.
        fits: Does a model with these tensors belong to it?
        architecture: What a GGUF file calls it in general.architecture; empty where no loader of GGUF
            files knows it.
        diffusers: Is this the layout of diffusers, and not the one that the family was published in?
    """

    name: str
    fits: Callable[[Shapes], bool]
    architecture: str = ""
    diffusers: bool = False


def _context_width(shapes: Shapes) -> int:
    """Return the width of the text that a U-Net's cross-attention takes; 0 when there is none."""
    for name, shape in shapes.items():
        if name.endswith("attn2.to_k.weight") and len(shape) == 2:
            return shape[1]
    return 0


def _unet_for(width: int, first: str) -> Callable[[Shapes], bool]:
    return lambda shapes: first in shapes and _context_width(shapes) == width


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


_UNET, _DIFFUSERS_UNET = "input_blocks.0.0.weight", "conv_in.weight"
_FLUX_NORM = "double_blocks.0.img_attn.norm.key_norm."
_FLUX_KEY = (f"{_FLUX_NORM}scale", f"{_FLUX_NORM}weight")  # as published; as ComfyUI saves it
_FLUX = ("img_in.weight", _FLUX_KEY)
_Q = "transformer_blocks.0.attn.to_q.weight"
_AURA_K = "joint_transformer_blocks.0.attn.add_k_proj.weight"
_ONE_TENSOR = (
    "clf.1.weight",  # Stable Cascade
    "transformer.rotary_pos_emb.inv_freq",  # Stable Audio
    "mlp_t5.0.weight",  # HunyuanDiT
    "t5_yproj.weight",  # Mochi
    "genre_embedder.weight",  # ACE-Step
    "t_block.1.weight",  # PixArt
    "blocks.0.norm1.linear.weight",  # CogVideoX
    "latent_in.weight",  # Hunyuan3D 2
    "time_caption_embed.timestep_embedder.linear_1.bias",  # OmniGen2
    "embed_image_indicator.weight",  # Ideogram 4
    "txtfusion.projector.weight",  # Krea 2
    "visual_transformer_blocks.0.cross_attention.key_norm.weight",  # Kandinsky 5
    "layers.0.mlp.linear_fc2.weight",  # Ernie Image
)
_FAMILIES = (
    _Family("SD3", _has("joint_blocks.0.context_block.attn.qkv.weight"), "sd3"),
    _Family(
        "Flux",
        _has(
            *(*_FLUX, "vector_in.in_layer.weight"),
            # Relatives of Flux that take other text encoders: Flux 2, Chroma, HunyuanVideo.
            without=(
                "double_stream_modulation_img.lin.weight",
                "distilled_guidance_layer.in_proj.weight",
                "txt_in.individual_token_refiner.blocks.0.norm1.weight",
            ),
        ),
        "flux",
    ),
    _Family(
        "Z-IMAGE",
        _has("cap_embedder.1.weight", "noise_refiner.0.attention.k_norm.weight", rows=3840),
        "lumina2",
    ),
    _Family(
        "Z-IMAGE",
        _has("cap_embedder.1.weight", "noise_refiner.0.attention.norm_k.weight", rows=3840),
        "lumina2",
        diffusers=True,
    ),
    _Family("SDXL", _unet_for(2048, _UNET), "sdxl"),
    _Family("SDXL", _unet_for(2048, _DIFFUSERS_UNET), "sdxl", diffusers=True),
    _Family("SD1.5", _unet_for(768, _UNET), "sd1"),
    _Family("SD1.5", _unet_for(768, _DIFFUSERS_UNET), "sd1", diffusers=True),
    _Family("Other", _has(_UNET, "label_emb.0.0.weight"), "sdxl"),
    _Family("Other", _has(_UNET), "sd1"),
    _Family("Other", _has(_DIFFUSERS_UNET), "sd1", diffusers=True),
    _Family("Other", _has("txt_in.individual_token_refiner.blocks.0.norm1.weight"), "hyvid"),
    _Family("Other", _has(_FLUX_KEY), "flux"),  # Flux 2, Chroma
    _Family("Other", _has("cap_embedder.1.weight", "layers.0.attention.qkv.weight"), "lumina2"),
    _Family(
        "Other", _has("cap_embedder.1.weight", "layers.0.attention.to_q.weight"), "lumina2", True
    ),
    _Family("Other", _has("cap_embedder.1.weight")),
    _Family("Other", _has("blocks.0.self_attn.q.weight", "patch_embedding.weight"), "wan"),
    _Family("Other", _has("double_layers.0.attn.w1q.weight"), "aura"),
    _Family("Other", _has(_AURA_K), "aura", diffusers=True),
    _Family(
        "Other",
        _has(
            "caption_projection.0.linear.weight",
            "double_stream_blocks.0.block.ff_i.shared_experts.w3.weight",
        ),
        "hidream",
    ),
    _Family(
        "Other",
        _has("blocks.0.mlp.layer1.weight", "blocks.0.adaln_modulation_cross_attn.1.weight"),
        "cosmos",
    ),
    _Family("Other", _has("blocks.block0.blocks.0.block.attn.to_q.0.weight"), "cosmos"),
    _Family(
        "Other",
        _has("patchify_proj.weight", "adaln_single.emb.timestep_embedder.linear_1.weight"),
        "ltxv",
    ),
    _Family("Other", _has("txt_norm.weight", "img_in.weight", _Q), "qwen_image"),
    _Family(
        "Flux",
        _has("x_embedder.weight", "single_transformer_blocks.0.attn.to_q.weight", _Q),
        "flux",
        True,
    ),
    _Family(
        "SD3",
        _has(
            "pos_embed.proj.weight",
            "context_embedder.weight",
            "transformer_blocks.0.attn.add_q_proj.weight",
        ),
        "sd3",
        True,
    ),
    _Family(
        "Other", _has("adaln_single.emb.timestep_embedder.linear_1.bias", "pos_embed.proj.bias")
    ),
    # What ComfyUI knows by one tensor, and no loader of GGUF files does.
    *(_Family("Other", _has(name)) for name in _ONE_TENSOR),
    _Family("Other", _has(_Q)),
)


@dataclass(frozen=True, slots=True)
class Model:
    """What the tensors of a diffusion model say of it.

    Attributes:
        family: As the nodes call it; "Other" where they have no type of its own for it.
        architecture: What a GGUF file calls it; empty where no loader of GGUF files knows it.
        diffusers: Is this the layout of diffusers, and not the one that the family was published in?
    """

    family: str
    architecture: str
    diffusers: bool


def describe_model(shapes: Shapes) -> Model | None:
    """Return what is known of the model with these tensors, whose names have no prefix."""
    family = next((family for family in _FAMILIES if family.fits(shapes)), None)
    return Model(family.name, family.architecture, family.diffusers) if family else None
