"""For which base model a LoRA was trained: what its header says, else what its names and shapes tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..weights.contents import Shapes
from ..weights.safetensors_header import SafetensorsHeader

# What trainers write → our word. The first that the text contains counts, so longer ones come first.
_WORDS = (
    ("qwen", "Qwen-Image"),
    ("zimage", "Z-Image"),
    ("lumina", "Lumina 2"),
    ("hunyuan", "HunyuanVideo"),
    ("chroma", "Chroma"),
    ("wan", "Wan"),
    ("flux2", "Flux.2"),
    ("flux", "Flux"),
    ("sd3", "SD3"),
    ("stablediffusion3", "SD3"),
    ("illustrious", "Illustrious"),
    ("pony", "Pony"),
    ("sdxl", "SDXL"),
    ("stablediffusionxl", "SDXL"),
    ("sdv2", "SD2"),
    ("stablediffusionv2", "SD2"),
    ("sdv1", "SD1.5"),
    ("sd1", "SD1.5"),
    ("stablediffusionv1", "SD1.5"),
)
_FIELDS = ("ss_base_model_version", "modelspec.architecture", "modelspec.usage_hint")
# Columns of the weights that read the text, in a U-Net's cross-attention.
_TEXT_WIDTHS = {768: "SD1.5", 1024: "SD2", 2048: "SDXL"}
_READS_TEXT = r"attn2_to_k_"
# Names with every "." as "_" → base model; the first that fits any name counts.
_NAMES = (
    (r"double_stream_modulation|to_qkv_mlp_proj", "Flux.2"),
    (r"double_blocks_\d+_img_mlp_fc", "HunyuanVideo"),
    (r"single_transformer_blocks_|double_blocks_\d+_|single_blocks_\d+_", "Flux"),
    (r"transformer_blocks_\d+_(img|txt)_(mlp|mod)", "Qwen-Image"),
    (r"joint_blocks_\d+_", "SD3"),
    (r"(^|_)blocks_\d+_(self|cross)_attn_", "Wan"),
    (r"lora_te2_", "SDXL"),
)
_TRANSFORMER_WIDTHS = {1536: "SD3", 2432: "SD3", 3072: "Qwen-Image or Flux"}
_LAYER_WIDTHS = {2304: "Lumina 2", 3840: "Z-Image"}
_DOWN = re.compile(r"\.(lora_down|lora_A|lora\.down|hada_w1_b|lora_A\.default)(\.weight)?$")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model, and how it is known.

    Attributes:
        name: "" where nothing tells.
        source: The field of the header, or "its tensors".
    """

    name: str = ""
    source: str = ""

    def __str__(self) -> str:
        return f"{self.name} (by {self.source})" if self.name else "unknown"


def guess_base_model(header: SafetensorsHeader) -> BaseModel:
    """Return the base model of a LoRA; a header's own words come first."""
    for field in _FIELDS:
        name = _known_word(header.metadata.get(field, ""))
        if name:
            return BaseModel(name, field)
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    for look in _LOOKS:
        name = look(shapes)
        if name:
            return BaseModel(name, "its tensors")
    return BaseModel()


def _known_word(text: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    return next((name for word, name in _WORDS if word in plain), "")


def _by_cross_attention(shapes: Shapes) -> str:
    widths = _columns(shapes, _READS_TEXT)
    return next((_TEXT_WIDTHS[width] for width in widths if width in _TEXT_WIDTHS), "")


def _by_names(shapes: Shapes) -> str:
    plain = [name.replace(".", "_") for name in shapes]
    for pattern, base in _NAMES:
        if any(re.search(pattern, name) for name in plain):
            return base
    return ""


def _by_width(shapes: Shapes) -> str:
    for pattern, table in (
        (r"(^|_)layers_\d+_attention_(qkv|to_)", _LAYER_WIDTHS),
        (r"transformer_blocks_\d+_attn_", _TRANSFORMER_WIDTHS),
    ):
        widths = _columns(shapes, pattern)
        found = next((table[width] for width in widths if width in table), "")
        if found:
            return found
    return ""


def _columns(shapes: Shapes, pattern: str) -> Iterator[int]:
    """Yield the widths of what goes into the layers whose names fit."""
    for name, shape in shapes.items():
        if len(shape) >= 2 and _DOWN.search(name) and re.search(pattern, name.replace(".", "_")):
            yield shape[1]


_LOOKS = (_by_cross_attention, _by_names, _by_width)
