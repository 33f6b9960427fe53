"""Narrow text encoders as GGUF files with llama.cpp's names, and what those files say as safetensors files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..engine.random_weights import Weights
from ..gguf import gguf_files
from . import narrow_encoders

# ComfyUI's name → llama.cpp's, written down here once more: a slip in ours does not hide in both.
T5_NAMES = {
    r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias": r"enc.blk.\1.attn_rel_b",
    r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.": r"enc.blk.\1.attn_",
    r"encoder\.block\.(\d+)\.layer\.0\.layer_norm": r"enc.blk.\1.attn_norm",
    r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1": r"enc.blk.\1.ffn_up",
    r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0": r"enc.blk.\1.ffn_gate",
    r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo": r"enc.blk.\1.ffn_down",
    r"encoder\.block\.(\d+)\.layer\.1\.layer_norm": r"enc.blk.\1.ffn_norm",
    r"encoder\.final_layer_norm": "enc.output_norm",
    r"shared\.": "token_embd.",
}
LLAMA_NAMES = {
    r"model\.layers\.(\d+)\.self_attn\.o_proj": r"blk.\1.attn_output",
    r"model\.layers\.(\d+)\.self_attn\.(\w)_proj": r"blk.\1.attn_\2",
    r"model\.layers\.(\d+)\.self_attn\.(\w)_norm": r"blk.\1.attn_\2_norm",
    r"model\.layers\.(\d+)\.mlp\.(\w+)_proj": r"blk.\1.ffn_\2",
    r"model\.layers\.(\d+)\.input_layernorm": r"blk.\1.attn_norm",
    r"model\.layers\.(\d+)\.post_attention_layernorm": r"blk.\1.ffn_norm",
    r"model\.embed_tokens": "token_embd",
    r"model\.norm": "output_norm",
    r"^lm_head": "output",
}


class Encoder(NamedTuple):
    """How a narrow text encoder becomes a GGUF file."""

    architecture: str
    weights: Callable[[], Weights]
    names: dict[str, str]
    kinds: tuple[str, ...]
    metadata: tuple[tuple[str, Any], ...] = ()


ENCODERS = {
    "t5": Encoder(
        "t5encoder", lambda: narrow_encoders.t5_weights("fp16"), T5_NAMES, ("Q8_0", "Q4_K", "Q5_0")
    ),
    "qwen3": Encoder(
        "qwen3",
        lambda: narrow_encoders.llama_weights("qwen3"),
        LLAMA_NAMES,
        ("Q4_0", "Q6_K", "BF16"),
    ),
}


def make(folder: Path, name: str) -> tuple[Path, Path]:
    """Return a GGUF file and the safetensors file of its values."""
    path = folder / f"{name}_narrow.gguf"
    plain = path.with_suffix(".safetensors")
    if not path.exists():
        encoder = ENCODERS[name]
        entries = _entries(encoder)
        stored = {stored_name(key, encoder.names): entry for key, entry in entries.items()}
        gguf_files.write_gguf(path, encoder.architecture, stored, encoder.metadata)
        narrow_encoders.save_with_holes(gguf_files.dequantised(entries), plain)
    return path, plain


def stored_name(name: str, names: dict[str, str]) -> str:
    """Return what llama.cpp calls a weight."""
    for ours, theirs in names.items():
        changed = re.sub(ours, theirs, name, count=1)
        if changed != name:
            return changed
    raise KeyError(name)


def _entries(encoder: Encoder) -> dict[str, gguf_files.Entry]:
    entries = gguf_files.mixture(encoder.weights(), encoder.kinds)
    for name, tensor in encoder.weights().items():
        if tensor.numel() > 1 << 24:  # the table of words: only those that texts have are in it
            entries[name] = _table(tensor)
    return entries


def _table(tensor: torch.Tensor) -> gguf_files.Entry:
    kind, shape, content = gguf_files.entry_of(tensor, "Q4_0", 77)
    raw = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(shape[0], -1)
    raw[~tensor.any(dim=1)] = 0
    return kind, shape, raw.numpy().tobytes()
