"""llama.cpp's names in ComfyUI's, by headers alone."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from luna_collection.utils.errors import ModelFileError
from luna_collection.utils.weights.contents import FileKind
from luna_collection.utils.weights.detection import describe_shapes
from luna_collection.utils.weights.gguf_header import GgufHeader, GgufTensor
from luna_collection.utils.weights.gguf_names import named_shapes, translate


def header(
    architecture: str, shapes: dict[str, tuple[int, ...]], metadata: dict[str, Any] | None = None
) -> GgufHeader:
    tensors = {name: GgufTensor("F32", shape, 0, 0, shape) for name, shape in shapes.items()}
    return GgufHeader(
        architecture,
        MappingProxyType(metadata or {}),
        MappingProxyType(tensors),
        "",
        0,
        0,
        32,
    )


T5 = {
    "token_embd.weight": (32128, 4096),
    "enc.blk.23.attn_q.weight": (4096, 4096),
    "enc.blk.0.attn_rel_b.weight": (32, 64),
    "enc.blk.23.attn_norm.weight": (4096,),
    "enc.blk.23.ffn_gate.weight": (10240, 4096),
    "enc.blk.23.ffn_up.weight": (10240, 4096),
    "enc.blk.23.ffn_down.weight": (4096, 10240),
    "enc.blk.23.ffn_norm.weight": (4096,),
    "enc.output_norm.weight": (4096,),
}
QWEN = {
    "token_embd.weight": (151936, 2560),
    "output_norm.weight": (2560,),
    "output.weight": (151936, 2560),
    "blk.0.attn_q.weight": (4096, 2560),
    "blk.0.attn_q_norm.weight": (128,),
    "blk.0.attn_output.weight": (2560, 4096),
    "blk.0.attn_norm.weight": (2560,),
    "blk.0.ffn_norm.weight": (2560,),
    "blk.0.ffn_down.weight": (2560, 9728),
}


def test_a_t5():
    found = translate("t5.gguf", header("t5encoder", T5))
    assert {name: each.stored for name, each in found.items()} == {
        "shared.weight": "token_embd.weight",
        "encoder.block.23.layer.0.SelfAttention.q.weight": "enc.blk.23.attn_q.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": "enc.blk.0.attn_rel_b.weight",
        "encoder.block.23.layer.0.layer_norm.weight": "enc.blk.23.attn_norm.weight",
        "encoder.block.23.layer.1.DenseReluDense.wi_0.weight": "enc.blk.23.ffn_gate.weight",
        "encoder.block.23.layer.1.DenseReluDense.wi_1.weight": "enc.blk.23.ffn_up.weight",
        "encoder.block.23.layer.1.DenseReluDense.wo.weight": "enc.blk.23.ffn_down.weight",
        "encoder.block.23.layer.1.layer_norm.weight": "enc.blk.23.ffn_norm.weight",
        "encoder.final_layer_norm.weight": "enc.output_norm.weight",
    }
    contents = describe_shapes(named_shapes("t5.gguf", header("t5encoder", T5)))
    assert (contents.kind, contents.encoder) == (FileKind.TEXT_ENCODER, "t5xxl")


def test_the_decoder_of_a_whole_t5_is_left_out():
    whole = {**T5, "dec.blk.0.attn_q.weight": (4096, 4096), "dec.output_norm.weight": (4096,)}
    assert translate("t5.gguf", header("t5", whole)) == translate("t5.gguf", header("t5", T5))


def test_a_qwen3():
    shapes = named_shapes("q.gguf", header("qwen3", QWEN))
    assert set(shapes) == {
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight",
    }
    assert describe_shapes(shapes).encoder == "qwen3_4b"
    assert not any(each.heads for each in translate("q.gguf", header("qwen3", QWEN)).values())


def test_rows_of_a_llama_are_in_another_order():
    shapes = {
        "blk.0.attn_q.weight": (4096, 4096),
        "blk.0.attn_k.weight": (1024, 4096),
        "blk.0.attn_v.weight": (1024, 4096),
        "rope_freqs.weight": (64,),
    }
    counts = {"llama.attention.head_count": 32, "llama.attention.head_count_kv": 8}
    found = translate("llama.gguf", header("llama", shapes, counts))
    heads = {name.split(".")[4]: each.heads for name, each in found.items()}
    assert heads == {"q_proj": 32, "k_proj": 8, "v_proj": 0}
    with pytest.raises(ModelFileError, match=r"how many attention heads it has \(llama"):
        translate("llama.gguf", header("llama", shapes))
    with pytest.raises(ModelFileError, match="how many attention heads"):
        translate(
            "llama.gguf", header("llama", shapes, {**counts, "llama.attention.head_count_kv": 0})
        )


def test_other_files_have_their_names_already():
    shapes = {"encoder.block.0.layer.0.SelfAttention.q.weight": (64, 64), "blk.weight": (1,)}
    for architecture in ("flux", "sd1", "", "llama"):
        assert named_shapes("x.gguf", header(architecture, shapes)) == shapes


def test_what_cannot_be_used_is_refused_with_the_reason():
    with pytest.raises(ModelFileError, match=r"'g\.gguf' cannot be used .* a Gemma's tokenizer"):
        translate("g.gguf", header("gemma3", {"blk.0.attn_q.weight": (1, 1)}))
    mistral = {"blk.0.attn_q.weight": (1, 1), "token_embd.weight": (131072, 5120)}
    for architecture in ("llama", "mistral3"):
        with pytest.raises(
            ModelFileError, match=r"'m\.gguf' cannot be used .* a Mistral's tokenizer"
        ):
            translate("m.gguf", header(architecture, mistral))
    with pytest.raises(ModelFileError, match="the half of a language model that looks at images"):
        translate("mmproj.gguf", header("clip", {"v.blk.0.attn_q.weight": (1, 1)}))
    with pytest.raises(ModelFileError, match="architecture 'mamba', which is none of"):
        translate("m.gguf", header("mamba", {"blk.0.attn_q.weight": (1, 1)}))
    with pytest.raises(ModelFileError, match=r"a tensor 'blk\.0\.ffn_gate_exps\.weight' that"):
        translate("q.gguf", header("qwen3", {**QWEN, "blk.0.ffn_gate_exps.weight": (1, 1)}))
