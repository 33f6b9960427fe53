"""What llama.cpp calls the weights of text encoders, in the names of the files that ComfyUI takes.

A text encoder's GGUF file has llama.cpp's names and, for some architectures, weights that its converter
has changed: Llama's queries and keys have the rows of each head in another order. Files of other
programs that keep the original names need no translation. Standard library only.

Source: the tables of tensor names and the model classes of llama.cpp's converter (gguf-py/gguf/
tensor_mapping.py, convert_hf_to_gguf.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import ModelFileError
from .contents import Shapes
from .gguf_header import GgufHeader


class Translated(NamedTuple):
    """A tensor under its name for ComfyUI.

    Attributes:
        stored: Its name in the file.
        heads: Of as many attention heads the rows are to be put back in order; 0: they are in order.
    """

    stored: str
    heads: int = 0


_T5 = {
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "attn_norm": "layer.0.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
    "ffn_norm": "layer.1.layer_norm",
}
_T5_WHOLE = {"token_embd": "shared", "enc.output_norm": "encoder.final_layer_norm"}
_LLAMA = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}
_LLAMA_WHOLE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
# Computed by ComfyUI itself, or of a decoder that it does not have.
_UNUSED = re.compile(r"rope_freqs\.weight|dec\..*")
_T5_BLOCK = re.compile(r"enc\.blk\.(\d+)\.(\w+)\.(weight|bias)")
_LLAMA_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_WHOLE = re.compile(r"([\w.]+)\.(weight|bias)")


class _Layout(NamedTuple):
    block: re.Pattern[str]
    blocks_name: str
    in_block: Mapping[str, str]
    whole: Mapping[str, str]
    turns_heads: bool = False


_T5_LAYOUT = _Layout(_T5_BLOCK, "encoder.block", _T5, _T5_WHOLE)
_LLAMA_LAYOUT = _Layout(_LLAMA_BLOCK, "model.layers", _LLAMA, _LLAMA_WHOLE)
_LAYOUTS = {
    "t5": _T5_LAYOUT,
    "t5encoder": _T5_LAYOUT,
    "llama": _LLAMA_LAYOUT._replace(turns_heads=True),
    "qwen2": _LLAMA_LAYOUT,
    "qwen2vl": _LLAMA_LAYOUT,
    "qwen3": _LLAMA_LAYOUT,
    "qwen3vl": _LLAMA_LAYOUT,
}
_NO_TOKENIZER = "ComfyUI takes a {}'s tokenizer from its safetensors file, and a GGUF file does not have it as it was"
_GEMMA, _MISTRAL = "gemma", "mistral3"
_MISTRAL_WIDTHS = (5120, 3072)  # by which ComfyUI tells one from a Llama


def translate(file_name: str, header: GgufHeader) -> dict[str, Translated]:
    """Return ComfyUI's name → tensor of the file, for every tensor that ComfyUI uses.

    Raises:
        ModelFileError: It is a text encoder of which ComfyUI cannot make one.
    """
    architecture = header.architecture
    if any(name.startswith("v.blk.") for name in header.tensors):
        raise ModelFileError(
            f"'{file_name}' is the half of a language model that looks at images (mmproj), not a text encoder.",
            "Choose the file with the model itself.",
        )
    if not any(re.match(r"(enc\.)?blk\.\d+\.", name) for name in header.tensors):
        return {name: Translated(name) for name in header.tensors}
    for family, is_one in (
        ("Gemma", architecture.startswith(_GEMMA)),
        ("Mistral", architecture == _MISTRAL or _is_mistral(header)),
    ):
        if is_one:
            raise ModelFileError(
                f"'{file_name}' cannot be used as a text encoder: {_NO_TOKENIZER.format(family)}.",
                "Choose the safetensors file of the same text encoder.",
            )
    layout = _LAYOUTS.get(architecture)
    if layout is None:
        raise ModelFileError(
            f"'{file_name}' is a GGUF file of the architecture '{architecture[:40]}', which is none of "
            f"the text encoders that can be loaded from one: {', '.join(_LAYOUTS)}.",
            "Choose the safetensors file of the same model.",
        )
    return _translated(file_name, header, layout)


def _is_mistral(header: GgufHeader) -> bool:
    words = header.tensors.get("token_embd.weight")
    return (
        header.architecture == "llama"
        and words is not None
        and words.shape[1:] in [(width,) for width in _MISTRAL_WIDTHS]
    )


def named_shapes(file_name: str, header: GgufHeader) -> Shapes:
    """Return the shapes of a file's tensors under the names that ComfyUI knows them by.

    Raises:
        ModelFileError: It is a text encoder of which ComfyUI cannot make one.
    """
    return {
        name: header.tensors[found.stored].shape
        for name, found in translate(file_name, header).items()
    }


def _translated(file_name: str, header: GgufHeader, layout: _Layout) -> dict[str, Translated]:
    heads = _heads(file_name, header) if layout.turns_heads else {}
    names: dict[str, Translated] = {}
    for stored in header.tensors:
        if _UNUSED.fullmatch(stored):
            continue
        name, part = _name(stored, layout)
        if not name:
            raise ModelFileError(
                f"'{file_name}' has a tensor '{stored[:80]}' that a text encoder of the architecture "
                f"'{header.architecture}' does not have.",
                "Choose the safetensors file of the same model.",
            )
        names[name] = Translated(stored, heads.get(part, 0))
    return names


def _name(stored: str, layout: _Layout) -> tuple[str, str]:
    """Return a tensor's name for ComfyUI, "" where it has none, and which part of a block it is."""
    in_block = layout.block.fullmatch(stored)
    if in_block is not None:
        number, part, kind = in_block.groups()
        found = layout.in_block.get(part)
        return (f"{layout.blocks_name}.{number}.{found}.{kind}" if found else "", part)
    whole = _WHOLE.fullmatch(stored)
    found = layout.whole.get(whole[1]) if whole else None
    return (f"{found}.{whole[2]}" if whole and found else "", "")


def _heads(file_name: str, header: GgufHeader) -> dict[str, int]:
    """Return how many heads the queries and the keys have."""
    begin = f"{header.architecture}.attention.head_count"
    queries = header.metadata.get(begin)
    keys = header.metadata.get(f"{begin}_kv", queries)
    if type(queries) is not int or type(keys) is not int or queries < 1 or keys < 1:
        raise ModelFileError(
            f"'{file_name}' does not say how many attention heads it has ({begin}).",
            "Choose another file of the same model.",
        )
    return {"attn_q": queries, "attn_k": keys}
