"""Text encoders that bring something of their own: a tokenizer, or no eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ..engine.random_weights import random_weights
from ..proxy import gguf_encoders
from ..proxy.comparing import assert_differ, assert_same, encode
from . import gguf_files
from .test_gguf_tokenizer import metadata_of, trained

UMT5_SIZES = {"d_model": 64, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 32}
QWEN_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@pytest.fixture(scope="module")
def umt5(gguf_folder: Path) -> tuple[Any, Any]:
    """Return a narrow UMT5 from a GGUF file, and from a safetensors file with its tokenizer."""
    import comfy.ops
    import comfy.text_encoders.t5

    config = {
        **UMT5_SIZES,
        "model_type": "umt5",
        "vocab_size": 256384,
        "dense_act_fn": "gelu_pytorch_tanh",
        "is_gated_act": True,
    }
    kind = comfy.text_encoders.t5.T5
    weights = random_weights(
        kind(config, torch.float16, "meta", comfy.ops.manual_cast), torch.float16, 4, 0.1
    )
    # ComfyUI tells a T5-XXL by this weight, which one of two layers does not have.
    weights["encoder.block.23.layer.1.DenseReluDense.wi_1.weight"] = torch.zeros(10240, 32)
    tokenizer = trained("unigram", "nmt_nfkc", True)
    entries = gguf_files.mixture(weights, ["Q8_0", "F16"])
    stored = {
        gguf_encoders.stored_name(name, gguf_encoders.T5_NAMES): entry
        for name, entry in entries.items()
    }
    fields = {"model": "t5", **metadata_of(tokenizer)}
    metadata = [(f"tokenizer.ggml.{key}", value) for key, value in fields.items()]
    path = gguf_files.write_gguf(gguf_folder / "umt5.gguf", "t5encoder", stored, metadata)
    plain = {
        **gguf_files.dequantised(entries),
        "spiece_model": torch.frombuffer(bytearray(tokenizer), dtype=torch.uint8),
    }
    save_file(plain, path.with_suffix(".safetensors"))
    return load_both(path, "WAN", {"umt5xxl_model_config": UMT5_SIZES})


@pytest.fixture(scope="module")
def qwen_vl(gguf_folder: Path) -> tuple[Any, Any]:
    """Return the text half of a narrow Qwen2.5-VL, as GGUF files have it."""
    import comfy.ops
    import comfy.text_encoders.llama

    kind = comfy.text_encoders.llama.Qwen25_7BVLI
    module = kind(QWEN_SIZES, torch.float16, "meta", comfy.ops.manual_cast)
    weights = random_weights(module.model, torch.float16, 5, 0.1)
    entries = gguf_files.mixture({f"model.{k}": v for k, v in weights.items()}, ["Q8_0", "Q5_0"])
    stored = {
        gguf_encoders.stored_name(name, gguf_encoders.LLAMA_NAMES): entry
        for name, entry in entries.items()
    }
    path = gguf_files.write_gguf(gguf_folder / "qwen_vl.gguf", "qwen2vl", stored)
    save_file(gguf_files.dequantised(entries), path.with_suffix(".safetensors"))
    return load_both(path, "QWEN_IMAGE", {"qwen25_7b_model_config": QWEN_SIZES})


def load_both(path: Path, clip_type: str, options: dict[str, Any]) -> tuple[Any, Any]:
    import comfy.sd
    from luna_collection.luna_daemon.gguf_models.loading import load_gguf_clip

    kind = getattr(comfy.sd.CLIPType, clip_type)
    ours = load_gguf_clip([str(path)], None, kind, dict(options))
    stock = comfy.sd.load_clip(
        [str(path.with_suffix(".safetensors"))], clip_type=kind, model_options=dict(options)
    )
    return ours, stock


def test_a_umt5_brings_its_tokenizer(umt5):
    ours, stock = umt5
    text = "the cat sits on a (house:1.2) 猫"
    assert ours.tokenize(text) == stock.tokenize(text)
    assert_same(encode(ours, text), encode(stock, text))
    assert_differ(encode(ours, text), encode(ours, "a dog"))


def test_a_qwen_vl_reads_and_does_not_look(qwen_vl):
    from luna_collection.utils.errors import ModelFileError

    ours, stock = qwen_vl
    assert_same(encode(ours, "a cat"), encode(stock, "a cat"))
    tokens = ours.tokenize("what is this", images=[torch.zeros(1, 56, 56, 3)])
    with pytest.raises(ModelFileError, match="holds no image encoder"):
        ours.encode_from_tokens(tokens)


def test_a_clip_l_under_the_names_that_it_has(sd15_files, gguf_folder):
    """Files of other programs keep the original names; and the daemon can take over what is loaded here."""
    from luna_collection.luna_daemon.gguf_models.loading import load_gguf_clip
    from luna_collection.nodes.loaders.sharing import clip_origin
    from safetensors.torch import load_file

    weights = load_file(sd15_files / "text_encoders/clip_l.safetensors")
    entries = gguf_files.mixture(weights, ["Q8_0", "Q4_K"])
    path = gguf_files.write_gguf(gguf_folder / "clip_l.gguf", "clip", entries)
    save_file(gguf_files.dequantised(entries), path.with_suffix(".safetensors"))
    ours, stock = load_both(path, "STABLE_DIFFUSION", {})
    assert_same(encode(ours), encode(stock))
    part, reason = clip_origin(load_gguf_clip([str(path)]))
    assert (reason, part.clip_type, part.inside) == ("", "STABLE_DIFFUSION", ())
    assert [file.path for file in part.files] == [path]
