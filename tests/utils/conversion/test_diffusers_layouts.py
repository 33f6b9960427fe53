from __future__ import annotations

import pytest
from luna_collection.utils.conversion.converting import converted_once
from luna_collection.utils.conversion.diffusers_layouts import published_layout
from luna_collection.utils.conversion.model_tensors import ModelTensor, Piece
from luna_collection.utils.conversion.refusal import ConversionRefusedError, Reason
from safetensors.torch import load_file

from .model_files import save, weights

FLUX = {
    "x_embedder.weight": (256, 64),
    "context_embedder.weight": (256, 128),
    "norm_out.linear.weight": (512, 256),
    "transformer_blocks.0.attn.to_q.weight": (256, 256),
    "transformer_blocks.0.attn.to_k.weight": (256, 256),
    "transformer_blocks.0.attn.to_v.weight": (256, 256),
    "transformer_blocks.0.attn.norm_k.weight": (64,),
    "single_transformer_blocks.0.attn.to_q.weight": (256, 256),
    "single_transformer_blocks.0.attn.to_k.weight": (256, 256),
    "single_transformer_blocks.0.attn.to_v.weight": (256, 256),
    "single_transformer_blocks.0.proj_mlp.weight": (1024, 256),
}
Z_IMAGE = {
    "cap_embedder.1.weight": (64, 32),
    "layers.0.attention.to_q.weight": (64, 64),
    "layers.0.attention.to_k.weight": (64, 64),
    "layers.0.attention.to_v.weight": (64, 64),
    "layers.0.attention.norm_k.weight": (16,),
    "noise_refiner.1.feed_forward.w2.weight": (64, 96),
    "all_final_layer.2-1.linear.weight": (16, 64),
    "x_pad_token": (1, 64),
}


def tensors(shapes):
    return {
        name: ModelTensor("BF16", shape, (Piece(1000 * number, 100),))
        for number, (name, shape) in enumerate(shapes.items())
    }


def test_rows_are_put_together_and_halves_swapped_back(tmp_path):
    given = weights(FLUX)
    path = save(tmp_path / "a.safetensors", given)

    found = load_file(converted_once(path, "fp16", tmp_path).path)

    linear1 = found["single_blocks.0.linear1.weight"]
    assert linear1.shape == (1792, 256)
    assert linear1[256:512].equal(given["single_transformer_blocks.0.attn.to_k.weight"].half())
    assert linear1[768:].equal(given["single_transformer_blocks.0.proj_mlp.weight"].half())
    out = found["final_layer.adaLN_modulation.1.weight"]
    assert out[:256].equal(given["norm_out.linear.weight"][256:].half())
    assert out[256:].equal(given["norm_out.linear.weight"][:256].half())
    assert "double_blocks.0.img_attn.norm.key_norm.scale" in found


def test_z_image(tmp_path):
    found = published_layout(tensors(Z_IMAGE), "lumina2")

    assert set(found) == {
        "cap_embedder.1.weight",
        "layers.0.attention.qkv.weight",
        "layers.0.attention.k_norm.weight",
        "noise_refiner.1.feed_forward.w2.weight",
        "final_layer.linear.weight",
        "x_pad_token",
    }
    assert found["layers.0.attention.qkv.weight"].shape == (192, 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"somewhere.else.weight": (4, 4)}, r"'somewhere\.else\.weight'"),
        ({"transformer_blocks.0.attn.to_k.weight": (256, 128)}, r"double_blocks\.0\.img_attn\.qkv"),
        ({"single_transformer_blocks.0.attn.to_k.weight": None}, r"single_blocks\.0\.linear1"),
    ],
)
def test_what_cannot_be_exact_is_refused(tmp_path, change, words):
    shapes = {name: shape for name, shape in {**FLUX, **change}.items() if shape is not None}
    path = save(tmp_path / "a.safetensors", weights(shapes))

    with pytest.raises(ConversionRefusedError, match=words) as caught:
        converted_once(path, "gguf_Q8_0", tmp_path)

    assert caught.value.reason is Reason.LAYOUT


def test_a_family_without_tables_is_refused(tmp_path):
    aura = {"joint_transformer_blocks.0.attn.add_k_proj.weight": (64, 64)}
    path = save(tmp_path / "a.safetensors", weights(aura))

    with pytest.raises(ConversionRefusedError, match="diffusers' layout"):
        converted_once(path, "fp8_e4m3fn", tmp_path)
