from __future__ import annotations

import json
from pathlib import Path

import pytest
from luna_collection.utils.weights.contents import UNKNOWN, Contents, FileKind
from luna_collection.utils.weights.detection import describe, describe_shapes
from luna_collection.utils.weights.safetensors_header import read_safetensors_header

CLIP_L = {"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}
CLIP_G = {**CLIP_L, "text_model.encoder.layers.30.mlp.fc1.weight": (5120, 1280)}
CLIP_H = {**CLIP_L, "text_model.encoder.layers.22.mlp.fc1.weight": (4096, 1024)}
T5 = {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": (10240, 4096)}
NORM = "model.layers.0.post_attention_layernorm.weight"
QWEN3 = {NORM: (2560,), "model.layers.0.self_attn.q_norm.weight": (128,)}
SD_VAE = {"decoder.conv_in.weight": (512, 4, 3, 3), "encoder.conv_in.weight": (128, 3, 3, 3)}
FLUX_VAE = {"decoder.conv_in.weight": (512, 16, 3, 3)}

TO_K = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
SD15 = {"input_blocks.0.0.weight": (320, 4, 3, 3), TO_K: (320, 768)}
SD2 = {"input_blocks.0.0.weight": (320, 4, 3, 3), TO_K: (320, 1024)}
SDXL = {"input_blocks.0.0.weight": (320, 4, 3, 3), TO_K: (640, 2048)}
SD3 = {"joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536)}
FLUX = {
    "img_in.weight": (3072, 64),
    "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    "vector_in.in_layer.weight": (3072, 768),
}
FLUX_BY_COMFYUI = {name.replace("key_norm.scale", "key_norm.weight"): FLUX[name] for name in FLUX}
FLUX2 = {**FLUX, "double_stream_modulation_img.lin.weight": (1, 1)}
Z_IMAGE = {
    "cap_embedder.1.weight": (3840, 2560),
    "noise_refiner.0.attention.k_norm.weight": (128,),
}
LUMINA = {**Z_IMAGE, "cap_embedder.1.weight": (2304, 2304)}


def under(prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {prefix + name: shape for name, shape in shapes.items()}


def encoder(kind: str, **more: bool) -> Contents:
    return Contents(FileKind.TEXT_ENCODER, encoder=kind, **more)


def model(family: str) -> Contents:
    return Contents(FileKind.DIFFUSION_MODEL, family)


VISION = {"vision_model.encoder.layers.0.layer_norm1.weight": (1280,)}
WHOLE_CLIP = {**CLIP_L, "vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14)}

FILES = {
    "CLIP-L": (CLIP_L, encoder("clip_l")),
    "CLIP-G, which has the tensors of CLIP-L too": (CLIP_G, encoder("clip_g")),
    "CLIP-H": (CLIP_H, encoder("clip_h")),
    "text and vision in one file": (WHOLE_CLIP, encoder("clip_l", has_vision=True)),
    "T5-XXL": (T5, encoder("t5xxl")),
    "the T5 of Wan, with other words": (
        {**T5, "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": (32, 64)},
        encoder("umt5xxl"),
    ),
    "a smaller T5": ({next(iter(T5)): (5120, 2048)}, encoder("t5xl")),
    "Qwen3-4B": (QWEN3, encoder("qwen3_4b")),
    "Qwen3-8B": ({**QWEN3, NORM: (4096,)}, encoder("qwen3_8b")),
    "Llama 3, which has no norm of its queries": ({NORM: (4096,)}, encoder("llama3_8b")),
    "Gemma 2": (
        {"model.layers.0.post_feedforward_layernorm.weight": (2304,)},
        encoder("gemma2_2b"),
    ),
    "SD1.5": (SD15, model("SD1.5")),
    "SDXL": (SDXL, model("SDXL")),
    "SD 2, which no type of ours is for": (SD2, model("Other")),
    "SD3": (SD3, model("SD3")),
    "Flux": (FLUX, model("Flux")),
    "Flux as ComfyUI saves it": (FLUX_BY_COMFYUI, model("Flux")),
    "Flux 2 takes other encoders": (FLUX2, model("Other")),
    "Z-IMAGE": (Z_IMAGE, model("Z-IMAGE")),
    "Lumina 2 is built alike": (LUMINA, model("Other")),
    "a model under the prefix of checkpoints, alone": (
        under("model.diffusion_model.", FLUX),
        model("Flux"),
    ),
    "SD1.5 with everything": (
        {
            **under("model.diffusion_model.", SD15),
            **under("cond_stage_model.transformer.", CLIP_L),
            **under("first_stage_model.", SD_VAE),
        },
        Contents(FileKind.CHECKPOINT, "SD1.5", baked_encoders=("clip_l",), has_vae=True),
    ),
    "SDXL with both encoders in their published layouts": (
        {
            **under("model.diffusion_model.", SDXL),
            **under("conditioner.embedders.0.transformer.", CLIP_L),
            "conditioner.embedders.1.model.ln_final.weight": (1280,),
        },
        Contents(FileKind.CHECKPOINT, "SDXL", baked_encoders=("clip_l", "clip_g")),
    ),
    "Flux in ComfyUI's all-in-one layout": (
        {
            **under("model.diffusion_model.", FLUX),
            **under("text_encoders.clip_l.transformer.", CLIP_L),
            **under("text_encoders.t5xxl.transformer.", T5),
            **under("vae.", FLUX_VAE),
        },
        Contents(FileKind.CHECKPOINT, "Flux", baked_encoders=("clip_l", "t5xxl"), has_vae=True),
    ),
    "an encoder in a checkpoint that we do not know": (
        {
            **under("model.diffusion_model.", SD2),
            "text_encoders.bert.transformer.weight": (1,),
        },
        Contents(FileKind.CHECKPOINT, "Other", baked_encoders=("other",)),
    ),
    "the VAE of SD": (SD_VAE, Contents(FileKind.VAE, latent_channels=4)),
    "the VAE of Flux": (FLUX_VAE, Contents(FileKind.VAE, latent_channels=16)),
    "the tiny VAE": (
        {"taesd_decoder.1.weight": (64, 4, 3, 3)},
        Contents(FileKind.VAE, latent_channels=4),
    ),
    "the VAE of Wan": (
        {"decoder.conv1.weight": (384, 16, 3, 3, 3)},
        Contents(FileKind.VAE, latent_channels=16, is_video=True),
    ),
    "the VAE of HunyuanVideo": (
        {"decoder.conv_in.conv.weight": (512, 16, 3, 3, 3)},
        Contents(FileKind.VAE, latent_channels=16, is_video=True),
    ),
    "the VAE of Mochi": (
        {"decoder.blocks.2.blocks.3.stack.5.weight": (1,)},
        Contents(FileKind.VAE, is_video=True),
    ),
    "the VAE of ACE-Step": (
        {"vocoder.backbone.channel_layers.0.0.bias": (1,)},
        Contents(FileKind.VAE),
    ),
    "an image encoder": (VISION, Contents(FileKind.CLIP_VISION)),
    "a LoRA of a text encoder": (
        {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (16, 768)},
        Contents(FileKind.LORA),
    ),
    "a LoKr": ({"lora_unet_x.lokr_w1": (4, 4)}, Contents(FileKind.LORA)),
    "an IP-Adapter": (
        {"ip_adapter.1.to_k_ip.weight": (320, 768), "image_proj.norm.weight": (768,)},
        Contents(FileKind.IP_ADAPTER),
    ),
    "a ControlNet": (
        {"control_model.zero_convs.0.0.weight": (320, 320, 1, 1)},
        Contents(FileKind.CONTROLNET),
    ),
    "something else": ({"weight": (1,)}, UNKNOWN),
    "nothing": ({}, UNKNOWN),
}


@pytest.mark.parametrize(("shapes", "contents"), FILES.values(), ids=FILES.keys())
def test_a_file_is_known_by_names_and_shapes(shapes, contents):
    assert describe_shapes(shapes) == contents


def test_a_header_on_disk_is_enough(tmp_path: Path):
    path = tmp_path / "encoder.safetensors"
    name, shape = next(iter(T5.items()))
    nbytes = 2 * shape[0] * shape[1]
    header = json.dumps({name: {"dtype": "F16", "shape": shape, "data_offsets": [0, nbytes]}})
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + nbytes)  # no weight is ever written, nor read
    assert describe(read_safetensors_header(path)) == encoder("t5xxl")


def test_contents_are_sentences():
    assert str(model("Flux")) == "a diffusion model (Flux)"
    assert str(encoder("t5xxl")) == "a text encoder (t5xxl)"
    assert str(Contents(FileKind.LORA)) == "a LoRA"
    assert str(Contents(FileKind.VAE, is_video=True)) == "a VAE (video)"
    assert str(UNKNOWN) == "of an unknown kind"
