"""Diffusers' names for the tensors of a model → those that it was published with.

Where diffusers splits a matrix by rows, such as query, key and value, its parts are put together again; where it
swaps the halves of one, they are swapped back. Both only move whole rows, so the result is exact. A model with a
tensor that the tables do not know is refused.

Tables: module in diffusers → module as published. `name:1` is the second of several matrices that stand above each
other there; `name:swapped` has its halves the other way round; `name=scale` has its weight under another name.

Sources: diffusers' conversion scripts for these models, and ComfyUI's loader of diffusers' files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from .model_tensors import ModelTensor

_SWAPPED = "swapped"
Table = Mapping[str, str]
Place = tuple[str, str]  # the published name of a tensor, and which part of it this is


def _qkv(of: str, names: str, to: str) -> dict[str, str]:
    return {f"{of}.{name}": f"{to}:{number}" for number, name in enumerate(names.split())}


_EMBEDDER = {
    "timestep_embedder": "time_in",
    "text_embedder": "vector_in",
    "guidance_embedder": "guidance_in",
}
_FLUX_TOP = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "proj_out": "final_layer.linear",
    "norm_out.linear": "final_layer.adaLN_modulation.1:swapped",
    **{
        f"time_text_embed.{name}.linear_{number}": f"{to}.{layer}"
        for name, to in _EMBEDDER.items()
        for number, layer in ((1, "in_layer"), (2, "out_layer"))
    },
}
_FLUX_DOUBLE = {
    **_qkv("attn", "to_q to_k to_v", "img_attn.qkv"),
    **_qkv("attn", "add_q_proj add_k_proj add_v_proj", "txt_attn.qkv"),
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "attn.norm_q": "img_attn.norm.query_norm=scale",
    "attn.norm_k": "img_attn.norm.key_norm=scale",
    "attn.norm_added_q": "txt_attn.norm.query_norm=scale",
    "attn.norm_added_k": "txt_attn.norm.key_norm=scale",
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
_FLUX_SINGLE = {
    **_qkv("attn", "to_q to_k to_v", "linear1"),
    "proj_mlp": "linear1:3",
    "attn.norm_q": "norm.query_norm=scale",
    "attn.norm_k": "norm.key_norm=scale",
    "norm.linear": "modulation.lin",
    "proj_out": "linear2",
}
_SD3_TOP = {
    "pos_embed.proj": "x_embedder.proj",
    "pos_embed.pos_embed": "pos_embed",
    "context_embedder": "context_embedder",
    "proj_out": "final_layer.linear",
    "norm_out.linear": "final_layer.adaLN_modulation.1:swapped",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
}
_SD3_BLOCK = {
    **_qkv("attn", "to_q to_k to_v", "x_block.attn.qkv"),
    **_qkv("attn2", "to_q to_k to_v", "x_block.attn2.qkv"),
    **_qkv("attn", "add_q_proj add_k_proj add_v_proj", "context_block.attn.qkv"),
    "attn.to_out.0": "x_block.attn.proj",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
_LUMINA_BLOCK = {
    **_qkv("attention", "to_q to_k to_v", "attention.qkv"),
    "attention.norm_q": "attention.q_norm",
    "attention.norm_k": "attention.k_norm",
    "attention.to_out.0": "attention.out",
    **{
        name: name
        for name in (
            *("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2", "adaLN_modulation.0"),
            *("feed_forward.w1", "feed_forward.w2", "feed_forward.w3"),
        )
    },
}
_LUMINA_TOP = {
    "all_final_layer.2-1.linear": "final_layer.linear",
    "all_final_layer.2-1.adaLN_modulation.1": "final_layer.adaLN_modulation.1",
    "all_x_embedder.2-1": "x_embedder",
    **{
        name: name
        for name in (
            *("x_pad_token", "cap_pad_token", "cap_embedder.0", "cap_embedder.1"),
            *("t_embedder.mlp.0", "t_embedder.mlp.2"),
        )
    },
}
# Architecture → its tables: of the whole model, and of its blocks with their names here and there.
_TABLES: dict[str, tuple[Table, Mapping[str, tuple[str, Table]]]] = {
    "flux": (
        _FLUX_TOP,
        {
            "transformer_blocks": ("double_blocks", _FLUX_DOUBLE),
            "single_transformer_blocks": ("single_blocks", _FLUX_SINGLE),
        },
    ),
    "sd3": (_SD3_TOP, {"transformer_blocks": ("joint_blocks", _SD3_BLOCK)}),
    "lumina2": (
        _LUMINA_TOP,
        {name: (name, _LUMINA_BLOCK) for name in ("layers", "noise_refiner", "context_refiner")},
    ),
}

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_TOP = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    **{
        f"{name}.linear_{number}": f"{to}.{layer}"
        for name, to in (
            ("time_embedding", "time_embed"),
            ("add_embedding", "label_emb.0"),
            ("class_embedding", "label_emb.0"),
        )
        for number, layer in ((1, 0), (2, 2))
    },
}
_NUMBERED = re.compile(r"(\w+)\.(\d+)\.(.+)")
_UNET_PART = re.compile(
    r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
_UNET_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def published_layout(
    tensors: Mapping[str, ModelTensor], architecture: str
) -> dict[str, ModelTensor] | str:
    """Return a model's tensors under the names that it was published with, or why that cannot be."""
    parts: defaultdict[str, dict[str, ModelTensor]] = defaultdict(dict)
    last = max(
        (int(n) for n in re.findall(r"^transformer_blocks\.(\d+)\.", "\n".join(tensors), re.M)),
        default=0,
    )
    for name, tensor in tensors.items():
        place = (
            _unet_place(name, tensors)
            if architecture in ("sd1", "sdxl")
            else _place(name, architecture)
        )
        if place is None:
            return f"no place is known for its tensor '{name}'"
        target, part = place
        if architecture == "sd3" and name.startswith(f"transformer_blocks.{last}.norm1_context."):
            part = _SWAPPED
        parts[target][part] = tensor
    joined = {}
    for target, pieces in parts.items():
        whole = _joined(pieces)
        if whole is None:
            return f"the parts of '{target}' do not fit together"
        joined[target] = whole
    return joined


def _place(name: str, architecture: str) -> Place | None:
    """Return where a transformer's tensor belongs."""
    if architecture not in _TABLES:
        return None
    top, blocks = _TABLES[architecture]
    numbered = _NUMBERED.fullmatch(name)
    if numbered and numbered[1] in blocks:
        to, table = blocks[numbered[1]]
        return _looked_up(table, numbered[3], f"{to}.{numbered[2]}.")
    return _looked_up(top, name, "")


def _looked_up(table: Table, name: str, prefix: str) -> Place | None:
    module, dot, end = name.rpartition(".")
    if name in table:  # a parameter without .weight or .bias
        module, dot, end = name, "", ""
    if module not in table or end not in ("", "weight", "bias"):
        return None
    to, _, part = table[module].partition(":")
    to, _, other = to.partition("=")
    return f"{prefix}{to}{dot}{other or end}", part


def _unet_place(name: str, tensors: Mapping[str, ModelTensor]) -> Place | None:
    """Return where a U-Net's tensor belongs: its blocks are numbered one after the other there."""
    part, middle = _UNET_PART.fullmatch(name), _UNET_MIDDLE.fullmatch(name)
    if middle:
        number = 1 if middle[1] == "attentions" else 2 * int(middle[2])
        return _unet_layer(middle[1], middle[3], f"middle_block.{number}")
    if not part:
        return _looked_up(_UNET_TOP, name, "")
    side, level, kind, number, rest = part[1], int(part[2]), part[3], int(part[4]), part[5]
    counts = [_count(tensors, f"{side}_blocks.{n}.resnets") for n in range(level + 1)]
    if side == "down":  # each level: its layers, then one that makes it smaller
        block = 1 + sum(count + 1 for count in counts[:level])
        block += counts[level] if kind == "downsamplers" else number
        to = f"input_blocks.{block}"
    else:
        block = sum(counts[:level])
        block += counts[level] - 1 if kind == "upsamplers" else number
        to = f"output_blocks.{block}"
    if kind == "resnets":
        return _unet_layer(kind, rest, f"{to}.0")
    if kind == "attentions":
        return _unet_layer(kind, rest, f"{to}.1")
    end = rest.removeprefix("conv.")
    if kind == "downsamplers":
        return f"{to}.0.op.{end}", ""
    has_attention = _count(tensors, f"up_blocks.{level}.attentions") > 0
    return f"{to}.{2 if has_attention else 1}.conv.{end}", ""


def _unet_layer(kind: str, rest: str, to: str) -> Place | None:
    if kind == "attentions":
        return f"{to}.{rest}", ""
    return _looked_up(_RESNET, rest, f"{to}.")


def _count(tensors: Mapping[str, ModelTensor], prefix: str) -> int:
    """Return how many numbered modules there are below a name."""
    found = re.compile(rf"^{re.escape(prefix)}\.(\d+)\.")
    return len({match[1] for name in tensors if (match := found.match(name))})


def _joined(parts: Mapping[str, ModelTensor]) -> ModelTensor | None:
    """Return one tensor of parts that stand above each other, or whose halves are swapped."""
    if len(parts) == 1 and "" in parts:
        return parts[""]
    if len(parts) == 1 and _SWAPPED in parts:
        return _swapped(parts[_SWAPPED])
    if sorted(parts) != [str(number) for number in range(len(parts))] or len(parts) < 3:
        return None
    ordered = [parts[str(number)] for number in range(len(parts))]
    first = ordered[0]
    if any((part.dtype, part.shape[1:]) != (first.dtype, first.shape[1:]) for part in ordered):
        return None
    rows = sum(part.shape[0] for part in ordered)
    pieces = tuple(piece for part in ordered for piece in part.pieces)
    return ModelTensor(first.dtype, (rows, *first.shape[1:]), pieces)


def _swapped(tensor: ModelTensor) -> ModelTensor | None:
    (piece,) = tensor.pieces
    if not tensor.shape or tensor.shape[0] % 2:
        return None
    half = piece.size // 2
    begins = (piece.begin + half, piece.begin)
    halves = tuple(replace(piece, begin=begin, size=half) for begin in begins)
    return replace(tensor, pieces=halves)
