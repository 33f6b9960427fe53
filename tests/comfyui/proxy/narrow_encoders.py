"""Large text encoders made narrow: a T5-XXL of two layers, and the three-layer Qwen3 of Z-Image.

ComfyUI has their sizes in files of its own. The daemon gets a tree in which those files say other ones;
this process gives the same sizes as an option of the loader.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..engine.random_weights import Weights, random_weights

# SD3 joins the other encoders' outputs to those of a T5 of the real width, so the width stays.
T5_SIZES = {"d_model": 4096, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 64}
# ComfyUI tells a Qwen3-4B by its width, and takes what its last layer but one gives.
QWEN_SIZES = {
    "num_hidden_layers": 3,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
OPTIONS = {"t5xxl_model_config": T5_SIZES, "qwen3_4b_model_config": QWEN_SIZES}
T5_CONFIG = "t5_config_xxl.json"
T5_WORDS, QWEN_WORDS = 32128, 151936
# ComfyUI tells a T5-XXL by this weight, which a T5 of two layers does not have.
TELLTALE = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"
# Words of the tables that are not all zero: the common ones, and what Qwen3's chats are framed with.
COMMON = 2048
QWEN_FRAME = (77091, *range(151643, 151675))
HOLE = 1 << 20  # bytes
_NAMES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.uint8: "U8",
}


def link_tree(root: Path, tree: Path) -> None:
    """Make a ComfyUI of links, but for the files that know the sizes.

    Raises:
        OSError: No links can be made here.
    """
    inside = tree / "comfy" / "text_encoders"
    inside.mkdir(parents=True)
    own = root / "comfy" / "text_encoders"
    for source, target in ((root, tree), (root / "comfy", tree / "comfy"), (own, inside)):
        for path in source.iterdir():
            if not (target / path.name).exists() and path.name != "__pycache__":
                (target / path.name).symlink_to(path)
    for name in ("sd3_clip.py", T5_CONFIG, "llama.py"):  # a module looks where its file really is
        (inside / name).unlink()
        shutil.copy(own / name, inside / name)
    sizes = json.loads((own / T5_CONFIG).read_text("utf-8"))
    (inside / T5_CONFIG).write_text(json.dumps({**sizes, **T5_SIZES}), encoding="utf-8")
    before, mark, after = (own / "llama.py").read_text("utf-8").partition("class Qwen3_4BConfig:")
    lines = after.splitlines(keepends=True)
    for name, size in QWEN_SIZES.items():
        number = next(n for n, line in enumerate(lines) if line.strip().startswith(f"{name}:"))
        lines[number] = f"    {name}: int = {size}\n"
    (inside / "llama.py").write_text(before + mark + "".join(lines), encoding="utf-8")


def t5_weights(kind: str) -> Weights:
    """Return a T5: "fp16", "bf16", "fp8" with ComfyUI's markers, "scaled fp8" with older ones, or
    "plain fp8", where every tensor is simply stored so.
    """
    import comfy.ops
    import comfy.sd
    import comfy.text_encoders.t5

    file = Path(comfy.sd.__file__).parent / "text_encoders" / T5_CONFIG
    config = {**json.loads(file.read_text("utf-8")), **T5_SIZES, "vocab_size": COMMON}
    dtype = torch.bfloat16 if kind == "bf16" else torch.float16
    module = comfy.text_encoders.t5.T5(config, dtype, "meta", comfy.ops.manual_cast)
    weights = random_weights(module, dtype, 21, 0.05)
    weights["shared.weight"] = _table(weights["shared.weight"], T5_WORDS)
    weights[TELLTALE] = torch.zeros(10240, 8, dtype=dtype)
    if kind == "plain fp8":
        return {name: tensor.to(torch.float8_e4m3fn) for name, tensor in weights.items()}
    return _in_fp8(weights, kind) if "fp8" in kind else weights


def qwen_weights() -> Weights:
    """Return a Qwen3-4B of three layers, in the type of Z-Image's file."""
    import comfy.ops
    import comfy.text_encoders.llama

    config = {**QWEN_SIZES, "vocab_size": COMMON}
    kind, dtype = comfy.text_encoders.llama.Qwen3_4B, torch.bfloat16
    weights = random_weights(kind(config, dtype, "meta", comfy.ops.manual_cast), dtype, 22, 0.05)
    name = "model.embed_tokens.weight"
    weights[name] = _table(weights[name], QWEN_WORDS)
    for number in QWEN_FRAME:
        weights[name][number] = weights[name][number % COMMON] * 0.5
    return weights


def _table(common: torch.Tensor, words: int) -> torch.Tensor:
    table = torch.zeros(words, common.shape[1], dtype=common.dtype)
    table[:COMMON] = common
    return table


def _in_fp8(weights: Weights, kind: str) -> Weights:
    """Return the linear layers' weights in eight bits, each with a scale."""
    marker = json.dumps({"format": "float8_e4m3fn"}).encode()
    found = dict(weights)
    for name, tensor in weights.items():
        layer = name.removesuffix(".weight")
        if ".layer." in name and tensor.dim() == 2 and "bias" not in name and name != TELLTALE:
            scale = tensor.abs().max().float() / 448
            found[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
            if kind == "fp8":
                found[f"{layer}.weight_scale"] = scale
                marker_bytes = torch.frombuffer(bytearray(marker), dtype=torch.uint8)
                found[f"{layer}.comfy_quant"] = marker_bytes
            else:
                found[f"{layer}.scale_weight"] = scale
    if kind == "scaled fp8":
        found["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    return found


def save_with_holes(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file whose long runs of zeros take no room on the disk."""
    described: dict[str, Any] = {}
    end = 0
    for name, tensor in weights.items():
        begin, end = end, end + tensor.nbytes
        place = {"shape": list(tensor.shape), "data_offsets": [begin, end]}
        described[name] = {"dtype": _NAMES[tensor.dtype], **place}
    header = json.dumps(described).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        start = file.tell()
        file.truncate(start + end)
        for name, tensor in weights.items():
            content = tensor.contiguous().reshape(-1).view(torch.uint8)
            for place in range(0, len(content), HOLE):
                piece = content[place : place + HOLE]
                if piece.any():
                    file.seek(start + described[name]["data_offsets"][0] + place)
                    file.write(piece.numpy().tobytes())
