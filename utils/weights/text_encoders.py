"""Which text encoder a file holds: one table of kinds, each known by a few of its tensors.

The layouts are those of the files that ComfyUI's loaders take: Hugging Face's names, without a prefix.
A model that is larger has the tensors of a smaller one of its series and more, so the larger comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from .contents import Contents, FileKind, Shapes


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of text encoder: tensors that it has, tensors that it has not, and first dimensions."""

    name: str
    has: str
    rows: int | None = None  # first dimension of `has`
    and_also: str = ""
    but_not: str = ""

    def fits(self, shapes: Shapes) -> bool:
        shape = shapes.get(self.has)
        return (
            shape is not None
            and (self.rows is None or shape[:1] == (self.rows,))
            and (not self.and_also or self.and_also in shapes)
            and (not self.but_not or self.but_not not in shapes)
        )


_CLIP = "text_model.encoder.layers.{}.mlp.fc1.weight"
_T5 = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"
# A T5 has this in its first block alone, a UMT5 in each: Wan's, whose words are others.
_UMT5 = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
_NORM = "model.layers.0.post_attention_layernorm.weight"
_Q_NORM = "model.layers.{}.self_attn.q_norm.weight"
_GEMMA = "model.layers.0.post_feedforward_layernorm.weight"
_QWEN_BIAS = "model.layers.0.self_attn.k_proj.bias"
_VISION = "vision_model.embeddings.patch_embedding.weight"

_KINDS = (
    _Kind("clip_g", _CLIP.format(30)),
    _Kind("clip_h", _CLIP.format(22)),
    _Kind("clip_l", _CLIP.format(0)),
    _Kind("jina_clip_2", "model.encoder.layers.0.mixer.Wqkv.weight"),
    _Kind("umt5xxl", _T5, 10240, and_also=_UMT5),
    _Kind("t5xxl", _T5, 10240),
    _Kind("t5xl", _T5, 5120),
    _Kind("t5xxl_old", "encoder.block.23.layer.1.DenseReluDense.wi.weight"),
    _Kind("byt5_small", "encoder.block.0.layer.0.SelfAttention.k.weight", 384),
    _Kind("t5_base", "encoder.block.0.layer.0.SelfAttention.k.weight"),
    _Kind("t5_gemma", "model.encoder.layers.0.pre_self_attn_layernorm.weight"),
    _Kind("gemma4_31b", _GEMMA, and_also=_Q_NORM.format(59)),
    _Kind("gemma3_12b", _GEMMA, and_also=_Q_NORM.format(47)),
    _Kind("gemma4_e4b", _GEMMA, and_also=_Q_NORM.format(41)),
    _Kind("gemma4_e2b", _GEMMA, and_also=_Q_NORM.format(34)),
    _Kind("gemma3_4b", _GEMMA, and_also=_Q_NORM.format(0)),
    _Kind("gemma2_2b", _GEMMA),
    _Kind(
        "gpt_oss_20b",
        "layers.0.self_attn.sinks",
        and_also="layers.0.mlp.experts.gate_up_proj.weight",
    ),
    _Kind("qwen2.5_3b", _QWEN_BIAS, 256),
    _Kind("qwen2.5_7b", _QWEN_BIAS, 512),
    _Kind("qwen3.5", "model.language_model.layers.0.linear_attn.A_log"),
    _Kind(
        "qwen3vl_4b",
        "model.visual.merger.linear_fc2.weight",
        2560,
        and_also="model.visual.deepstack_merger_list.0.norm.weight",
    ),
    _Kind("qwen3vl_8b", "model.visual.deepstack_merger_list.0.norm.weight"),
    _Kind("qwen3_4b", _NORM, 2560, and_also=_Q_NORM.format(0)),
    _Kind("qwen3_2b", _NORM, 2048, and_also=_Q_NORM.format(0)),
    _Kind("qwen3_8b", _NORM, 4096, and_also=_Q_NORM.format(0)),
    _Kind("qwen3_0.6b", _NORM, 1024, and_also=_Q_NORM.format(0)),
    _Kind("mistral3_24b", _NORM, 5120),
    _Kind("ministral3_3b", _NORM, 3072),
    _Kind("llama3_8b", _NORM, 4096, but_not=_Q_NORM.format(0)),
)


def detect_text_encoder(shapes: Shapes) -> Contents | None:
    """Know a file that holds one text encoder; a whole CLIP model has an image encoder beside it."""
    kind = encoder_kind(shapes)
    if kind is None:
        return None
    return Contents(FileKind.TEXT_ENCODER, encoder=kind, has_vision=_VISION in shapes)


def encoder_kind(shapes: Shapes) -> str | None:
    """Return the kind of the text encoder with these tensors, or None."""
    return next((kind.name for kind in _KINDS if kind.fits(shapes)), None)
