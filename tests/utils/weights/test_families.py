"""Families by the tensors that published models of them have."""

from __future__ import annotations

import pytest
from luna_collection.utils.conversion.architectures import ARCHITECTURES, find_architecture
from luna_collection.utils.weights.contents import FileKind
from luna_collection.utils.weights.detection import describe_shapes
from luna_collection.utils.weights.diffusion_models import model_prefix
from luna_collection.utils.weights.families import Model, describe_model

TO_K = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
MODELS = {
    "SDXL refiner": (
        {"input_blocks.0.0.weight": (384, 4, 3, 3), "label_emb.0.0.weight": (1536, 2560)},
        Model("Other", "sdxl", False),
    ),
    "SDXL of diffusers": (
        {"conv_in.weight": (320, 4, 3, 3), TO_K: (640, 2048)},
        Model("SDXL", "sdxl", True),
    ),
    "SD 1.5 of diffusers": (
        {"conv_in.weight": (320, 4, 3, 3), TO_K: (320, 768)},
        Model("SD1.5", "sd1", True),
    ),
    "Chroma": (
        {
            "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
            "distilled_guidance_layer.in_proj.weight": (5120, 64),
        },
        Model("Other", "flux", False),
    ),
    "HunyuanVideo": (
        {
            "txt_in.individual_token_refiner.blocks.0.norm1.weight": (3072,),
            "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
        },
        Model("Other", "hyvid", False),
    ),
    "Flux of diffusers": (
        {
            "x_embedder.weight": (3072, 64),
            "transformer_blocks.0.attn.to_q.weight": (3072, 3072),
            "single_transformer_blocks.0.attn.to_q.weight": (3072, 3072),
        },
        Model("Flux", "flux", True),
    ),
    "SD3 of diffusers": (
        {
            "pos_embed.proj.weight": (1536, 16, 2, 2),
            "context_embedder.weight": (1536, 4096),
            "transformer_blocks.0.attn.to_q.weight": (1536, 1536),
            "transformer_blocks.0.attn.add_q_proj.weight": (1536, 1536),
        },
        Model("SD3", "sd3", True),
    ),
    "Z-Image of diffusers": (
        {
            "cap_embedder.1.weight": (3840, 2560),
            "noise_refiner.0.attention.norm_k.weight": (128,),
            "layers.0.attention.to_q.weight": (3840, 3840),
        },
        Model("Z-IMAGE", "lumina2", True),
    ),
    "Lumina 2": (
        {"cap_embedder.1.weight": (2304, 2304), "layers.0.attention.qkv.weight": (6912, 2304)},
        Model("Other", "lumina2", False),
    ),
    "Qwen-Image": (
        {
            "txt_norm.weight": (3584,),
            "img_in.weight": (3072, 64),
            "transformer_blocks.0.attn.to_q.weight": (3072, 3072),
        },
        Model("Other", "qwen_image", False),
    ),
    "Wan": (
        {
            "patch_embedding.weight": (5120, 16, 1, 2, 2),
            "blocks.0.self_attn.q.weight": (5120, 5120),
        },
        Model("Other", "wan", False),
    ),
    "LTX-Video": (
        {
            "patchify_proj.weight": (2048, 128),
            "adaln_single.emb.timestep_embedder.linear_1.weight": (2048, 256),
            "transformer_blocks.0.attn1.to_q.weight": (2048, 2048),
        },
        Model("Other", "ltxv", False),
    ),
    "AuraFlow": (
        {"double_layers.0.attn.w1q.weight": (3072, 3072)},
        Model("Other", "aura", False),
    ),
    "HiDream": (
        {
            "caption_projection.0.linear.weight": (2560, 4096),
            "double_stream_blocks.0.block.ff_i.shared_experts.w3.weight": (3584, 2560),
        },
        Model("Other", "hidream", False),
    ),
    "Cosmos Predict 2": (
        {
            "blocks.0.mlp.layer1.weight": (8192, 2048),
            "blocks.0.adaln_modulation_cross_attn.1.weight": (256, 2048),
        },
        Model("Other", "cosmos", False),
    ),
    "an unknown transformer": (
        {"transformer_blocks.0.attn.to_q.weight": (64, 64)},
        Model("Other", "", False),
    ),
}
MODELS_BY_ID = pytest.mark.parametrize(("shapes", "model"), MODELS.values(), ids=MODELS.keys())


@MODELS_BY_ID
def test_a_model_is_known_by_its_tensors(shapes, model):
    assert describe_model(shapes) == model
    assert describe_shapes(shapes).kind is FileKind.DIFFUSION_MODEL
    assert describe_shapes(shapes).family == model.family


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "net.", "model.", ""])
@MODELS_BY_ID
def test_a_prefix_is_found(shapes, model, prefix):
    below = {f"{prefix}{name}": shape for name, shape in shapes.items()}

    assert model_prefix(below) == prefix
    assert describe_shapes(below).family == model.family


OTHERS = {
    "Stable Cascade": "clf.1.weight",
    "Stable Audio": "transformer.rotary_pos_emb.inv_freq",
    "HunyuanDiT": "mlp_t5.0.weight",
    "Mochi": "t5_yproj.weight",
    "ACE-Step": "genre_embedder.weight",
    "PixArt": "t_block.1.weight",
    "CogVideoX": "blocks.0.norm1.linear.weight",
    "Hunyuan3D 2": "latent_in.weight",
    "OmniGen2": "time_caption_embed.timestep_embedder.linear_1.bias",
    "Ideogram 4": "embed_image_indicator.weight",
    "Krea 2": "txtfusion.projector.weight",
    "Kandinsky 5": "visual_transformer_blocks.0.cross_attention.key_norm.weight",
    "Ernie Image": "layers.0.mlp.linear_fc2.weight",
}


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "net.", "model.model.", "model.", ""])
@pytest.mark.parametrize("name", OTHERS.values(), ids=OTHERS.keys())
def test_models_that_are_no_gguf_files_are_models_all_the_same(name, prefix):
    shapes = {f"{prefix}{name}": (64, 64)}
    assert model_prefix(shapes) == prefix
    assert describe_shapes(shapes).kind is FileKind.DIFFUSION_MODEL
    assert describe_model({name: (64, 64)}) == Model("Other", "", False)


def test_every_architecture_of_the_families_has_a_row():
    named = {model.architecture for _, model in MODELS.values() if model.architecture}
    assert named <= ARCHITECTURES.keys()
    assert ARCHITECTURES.keys() == named | {"sd1", "sd3"}


KEPT = {
    "sdxl": "input_blocks.0.0.weight time_embed.2.weight label_emb.0.0.weight out.2.weight",
    "flux": "img_in.weight txt_in.weight time_in.in_layer.weight final_layer.linear.weight",
    "sd3": "pos_embed x_embedder.proj.weight y_embedder.mlp.0.weight",
    "lumina2": "x_pad_token cap_embedder.1.weight noise_refiner.0.attention.qkv.weight",
    "qwen_image": "img_in.weight norm_out.linear.weight proj_out.weight",
    "wan": "patch_embedding.weight blocks.3.modulation head.head.weight",
    "ltxv": "patchify_proj.weight transformer_blocks.3.scale_shift_table proj_out.weight",
    "hidream": "double_stream_blocks.0.block.ff_i.gate.weight x_embedder.proj.weight",
    "cosmos": "x_embedder.proj.1.weight pos_embedder.seq",
    "aura": "register_tokens modF.1.weight",
    "": "patch_embed.proj.weight blocks.0.norm1.weight final.weight",
}
SMALLER = {
    "sdxl": "input_blocks.4.1.transformer_blocks.0.attn2.to_out.0.weight middle_block.0.out_layers.3.weight",
    "flux": "double_blocks.0.img_mod.lin.weight single_blocks.0.linear1.weight",
    "sd3": "joint_blocks.0.x_block.attn.qkv.weight",
    "lumina2": "layers.0.attention.qkv.weight layers.0.adaLN_modulation.0.weight",
    "qwen_image": "transformer_blocks.0.img_mod.1.weight",
    "wan": "blocks.0.self_attn.q.weight blocks.0.ffn.2.weight",
    "ltxv": "transformer_blocks.0.attn1.to_q.weight",
    "hidream": "double_stream_blocks.0.block.ff_i.experts.0.w2.weight",
    "cosmos": "blocks.0.adaln_modulation_mlp.1.weight",
    "aura": "double_layers.0.mlpX.c_proj.weight",
    "": "blocks.0.attn.to_q.weight",
}


@pytest.mark.parametrize("name", KEPT)
def test_what_a_model_begins_and_ends_with_is_kept(name):
    architecture = find_architecture(name)

    assert [tensor for tensor in KEPT[name].split() if not architecture.keeps(tensor)] == []
    assert [tensor for tensor in SMALLER[name].split() if architecture.keeps(tensor)] == []


def test_what_is_no_part_of_the_model_is_left_out():
    cosmos = find_architecture("cosmos")

    assert cosmos.skips("blocks.0.self_attn._extra_state")
    assert not cosmos.skips("blocks.0.mlp.layer1.weight")
    assert not find_architecture("flux").skips("img_in.weight")
