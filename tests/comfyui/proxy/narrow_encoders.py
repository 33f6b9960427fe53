"""Large text encoders made narrow: T5 and UMT5 of two layers, and language models of three.

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
UMT5_SIZES = {**T5_SIZES, "d_model": 64}
GEMMA_SIZES = {**QWEN_SIZES, "hidden_size": 64}
QWEN25_SIZES = {**GEMMA_SIZES, "num_key_value_heads": 2}  # by these ComfyUI tells the one of 3B
T5_CONFIG, UMT5_CONFIG = "t5_config_xxl.json", "umt5_config_xxl.json"
_SIZES_OF_FILE = {T5_CONFIG: T5_SIZES, UMT5_CONFIG: UMT5_SIZES}
# In ComfyUI's llama.py: class of the sizes, sizes, class of the module, words in the table.
_LLAMAS: dict[str, tuple[str, dict[str, int], str, int]] = {
    "qwen3": ("Qwen3_4BConfig", QWEN_SIZES, "Qwen3_4B", 151936),
    "qwen2.5": ("Qwen25_3BConfig", QWEN25_SIZES, "Qwen25_3B", 151936),
    "gemma2": ("Gemma2_2B_Config", GEMMA_SIZES, "Gemma2_2B", 256000),
}
OPTIONS = {
    "t5xxl_model_config": T5_SIZES,
    "umt5xxl_model_config": UMT5_SIZES,
    "qwen3_4b_model_config": QWEN_SIZES,
    "qwen25_3b_model_config": QWEN25_SIZES,
    "gemma2_2b_model_config": GEMMA_SIZES,
}
T5_WORDS, UMT5_WORDS = 32128, 256384
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
    # A module looks for such a file beside the place where its own file really is.
    for name in ("sd3_clip.py", "wan.py", "llama.py", *_SIZES_OF_FILE):
        (inside / name).unlink()
        shutil.copy(own / name, inside / name)
    for name, wanted in _SIZES_OF_FILE.items():
        sizes = json.loads((own / name).read_text("utf-8"))
        (inside / name).write_text(json.dumps({**sizes, **wanted}), encoding="utf-8")
    code = (own / "llama.py").read_text("utf-8")
    for config, wanted, _, _ in _LLAMAS.values():
        code = _with_sizes(code, f"class {config}:", wanted)
    (inside / "llama.py").write_text(code, encoding="utf-8")


def _with_sizes(code: str, mark: str, sizes: Mapping[str, int]) -> str:
    before, mark, after = code.partition(mark)
    lines = after.splitlines(keepends=True)
    for name, size in sizes.items():
        number = next(n for n, line in enumerate(lines) if line.strip().startswith(f"{name}:"))
        lines[number] = f"    {name}: int = {size}\n"
    return before + mark + "".join(lines)


def umt5_weights() -> Weights:
    """Return a UMT5 with its tokenizer inside, as Wan's files have it."""
    weights = _t5_module(UMT5_CONFIG, UMT5_SIZES, torch.float16)
    weights["shared.weight"] = _table(weights["shared.weight"], UMT5_WORDS)
    return {**weights, TELLTALE: torch.zeros(10240, 8), "spiece_model": _spiece_model()}


def t5_weights(kind: str) -> Weights:
    """Return a T5: "fp16", "bf16", "fp8" with ComfyUI's markers, "scaled fp8" with older ones, or
    "plain fp8", where every tensor is simply stored so.
    """
    dtype = torch.bfloat16 if kind == "bf16" else torch.float16
    weights = _t5_module(T5_CONFIG, T5_SIZES, dtype)
    weights["shared.weight"] = _table(weights["shared.weight"], T5_WORDS)
    weights[TELLTALE] = torch.zeros(10240, 8, dtype=dtype)
    if kind == "plain fp8":
        return {name: tensor.to(torch.float8_e4m3fn) for name, tensor in weights.items()}
    return _in_fp8(weights, kind) if "fp8" in kind else weights


def llama_weights(kind: str) -> Weights:
    """Return a language model of three layers: "qwen3", "qwen2.5" or "gemma2", which has its tokenizer inside."""
    import comfy.ops
    import comfy.text_encoders.llama

    _, sizes, name_of_class, words = _LLAMAS[kind]
    module = getattr(comfy.text_encoders.llama, name_of_class)
    config, dtype = {**sizes, "vocab_size": COMMON}, torch.bfloat16
    weights = random_weights(module(config, dtype, "meta", comfy.ops.manual_cast), dtype, 22, 0.05)
    name = "model.embed_tokens.weight"
    weights[name] = _table(weights[name], words)
    if kind == "gemma2":
        return {**weights, "spiece_model": _spiece_model()}
    for number in QWEN_FRAME:
        weights[name][number] = weights[name][number % COMMON] * 0.5
    return weights


def _t5_module(file: str, sizes: Mapping[str, int], dtype: torch.dtype) -> Weights:
    import comfy.ops
    import comfy.text_encoders.t5

    text = (_text_encoders() / file).read_text("utf-8")
    config = {**json.loads(text), **sizes, "vocab_size": COMMON}
    module = comfy.text_encoders.t5.T5(config, dtype, "meta", comfy.ops.manual_cast)
    return random_weights(module, dtype, 21, 0.05)


def _spiece_model() -> torch.Tensor:
    """Return a tokenizer that ComfyUI brings along, as bytes: files of some encoders have theirs inside."""
    file = _text_encoders() / "t5_pile_tokenizer" / "tokenizer.model"
    return torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8)


def _text_encoders() -> Path:
    import comfy.sd

    return Path(comfy.sd.__file__).parent / "text_encoders"


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
