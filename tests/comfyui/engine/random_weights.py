"""Model files with random weights, of the names and shapes that ComfyUI's own modules have.

Call `boot` first: these functions import ComfyUI.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

Weights = dict[str, torch.Tensor]
TILE = 1 << 20  # random numbers take their time, so large weights repeat some


def random_weights(module: Any, dtype: torch.dtype, seed: int, scale: float = 0.02) -> Weights:
    """Return random weights for a module, whose own may be on meta. Those of norms are around one."""
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for name, own in module.state_dict().items():
        count = own.numel()
        numbers = torch.randn(min(count, TILE), generator=generator) * scale
        if name.endswith("weight") and own.dim() == 1:
            numbers += 1.0
        repeated = numbers.to(dtype).repeat(-(-count // max(len(numbers), 1)))
        weights[name] = repeated[:count].reshape(own.shape)
    return weights


def in_type(weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> Weights:
    """Return weights in another element type."""
    return {name: tensor.to(dtype) for name, tensor in weights.items()}


def clip_text(name: str, dtype: torch.dtype = torch.float16, seed: int = 1) -> Weights:
    """Return a CLIP text encoder: "clip_l" or "clip_g"."""
    import comfy.clip_model
    import comfy.ops
    import comfy.sd

    file = {"clip_l": "sd1_clip_config.json", "clip_g": "clip_config_bigg.json"}[name]
    config = json.loads((Path(comfy.sd.__file__).parent / file).read_text("utf-8"))
    module = comfy.clip_model.CLIPTextModel(config, dtype, "meta", comfy.ops.manual_cast)
    return random_weights(module, dtype, seed)


def kl_vae(dtype: torch.dtype = torch.float16, seed: int = 2, channels: int = 4) -> Weights:
    """Return the VAE of SD1.5."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config = {
        "double_z": True,
        "z_channels": channels,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    with torch.device("meta"):
        module = AutoencoderKL(ddconfig=config, embed_dim=channels)
    return random_weights(module, dtype, seed, 0.03)


def taesd(dtype: torch.dtype = torch.float16, seed: int = 3) -> Weights:
    """Return a TAESD in one file."""
    from comfy.taesd.taesd import TAESD

    with torch.device("meta"):
        module = TAESD(latent_channels=4)
    return random_weights(module, dtype, seed, 0.05)


def wan_vae(dtype: torch.dtype = torch.float16, seed: int = 8) -> Weights:
    """Return the video VAE of Wan 2.1 with a sixth of its width, which ComfyUI reads from the file."""
    from comfy.ldm.wan.vae import WanVAE

    with torch.device("meta"):
        module = WanVAE(
            dim=16,
            z_dim=16,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=2,
            attn_scales=[],
            temperal_downsample=[False, True, True],
        )
    weights = random_weights(module, dtype, seed, 0.08)
    norms = {name: tensor + 1 for name, tensor in weights.items() if name.endswith("gamma")}
    return {**weights, **norms}


def ltx_vae(dtype: torch.dtype = torch.float32, seed: int = 12) -> tuple[Weights, dict[str, str]]:
    """Return a narrow video VAE of LTX-Video, which adds noise when it decodes, and its file's metadata."""
    from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

    one = ["res_x", {"num_layers": 1}]
    down, up = ["compress_all", {}], ["compress_all", {"residual": True, "multiplier": 2}]
    config = {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "latent_channels": 128,
        "patch_size": 4,
        "norm_layer": "pixel_norm",
        "encoder_base_channels": 8,
        "decoder_base_channels": 8,
        "encoder_blocks": [one, down, one, down, one, down, one],
        "decoder_blocks": [["res_x", {"num_layers": 1, "inject_noise": True}], *[up, one] * 3],
        "latent_log_var": "uniform",
        "causal_decoder": False,
        "timestep_conditioning": True,
    }
    with torch.device("meta"):
        module = VideoVAE(config=config)
    return random_weights(module, dtype, seed, 0.08), {"config": json.dumps({"vae": config})}


def clip_vision(dtype: torch.dtype = torch.float16, seed: int = 4) -> Weights:
    """Return the CLIP vision model of ViT-L/14 with the layers that ComfyUI tells it by."""
    import comfy.clip_model
    import comfy.clip_vision
    import comfy.ops

    file = Path(comfy.clip_vision.__file__).parent / "clip_vision_config_vitl.json"
    config = json.loads(file.read_text("utf-8"))
    kind = comfy.clip_model.CLIPVisionModelProjection
    return random_weights(kind(config, dtype, "meta", comfy.ops.manual_cast), dtype, seed)


def save(
    weights: Mapping[str, torch.Tensor],
    path: Path,
    start: int | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a safetensors file.

    Args:
        weights: name → tensor.
        path: The file; its folder is made.
        start: Where the first tensor begins, modulo 64: a multiple of 8. None: wherever it comes.
        metadata: What the header says beside the tensors.
    """
    from safetensors.torch import save as to_bytes
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    if start is None:
        save_file(tensors, path, metadata)
        return path
    content = to_bytes(tensors, metadata)
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    header += b" " * ((start - 8 - length) % 64)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


# What trainers call the parts of a CLIP text encoder's layer, and their sizes in widths: out, in.
_PARTS = {
    "mlp_fc1": (4, 1),
    "mlp_fc2": (1, 4),
    "self_attn_q_proj": (1, 1),
    "self_attn_k_proj": (1, 1),
    "self_attn_v_proj": (1, 1),
    "self_attn_out_proj": (1, 1),
}


def text_lora(seed: int, *, prefix: str = "lora_te", width: int = 768, layers: int = 12) -> Weights:
    """Return a LoRA for a text encoder."""
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for layer in range(layers):
        for part, (out, into) in _PARTS.items():
            key = f"{prefix}_text_model_encoder_layers_{layer}_{part}"
            for end, shape in (("up", (out * width, 4)), ("down", (4, into * width))):
                numbers = torch.randn(shape, generator=generator) * 0.1
                weights[f"{key}.lora_{end}.weight"] = numbers.to(torch.float16)
            weights[f"{key}.alpha"] = torch.tensor(2.0)
    return weights


def checkpoint() -> Weights:
    """Return a checkpoint of SD1.5 with a tiny U-Net, CLIP-L and a TAESD as its VAE."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    with torch.device("meta"):
        unet = UNetModel(
            image_size=32,
            in_channels=4,
            out_channels=4,
            model_channels=320,
            num_res_blocks=[1],
            transformer_depth=[1],
            transformer_depth_output=[0, 0],
            transformer_depth_middle=-2,
            channel_mult=(1,),
            num_heads=8,
            use_spatial_transformer=True,
            context_dim=768,
            legacy=False,
        )
    parts = {
        "model.diffusion_model.": random_weights(unet, torch.float16, 6),
        "cond_stage_model.transformer.": clip_text("clip_l"),
        "first_stage_model.": taesd(),
    }
    return {prefix + name: value for prefix, of in parts.items() for name, value in of.items()}


NARROW_T5 = {"d_model": 64, "d_kv": 16, "num_heads": 4}


def narrow_t5(dtype: torch.dtype = torch.float16, seed: int = 7) -> Weights:
    """Return a T5-XXL of little width; ComfyUI takes it with NARROW_T5 as `t5xxl_model_config`."""
    import comfy.ops
    import comfy.text_encoders.t5

    folder = Path(comfy.text_encoders.t5.__file__).parent
    config = {**json.loads((folder / "t5_config_xxl.json").read_text("utf-8")), **NARROW_T5}
    module = comfy.text_encoders.t5.T5(config, dtype, "meta", comfy.ops.manual_cast)
    return random_weights(module, dtype, seed)


def quantised(weights: Mapping[str, torch.Tensor], scale: float = 0.001) -> Weights:
    """Return a model's weights as ComfyUI's own fp8 files have them."""
    found: Weights = {}
    for name, weight in weights.items():
        found[name] = weight
        if weight.dim() == 2 and ".block." in name and "relative" not in name:
            layer = name.removesuffix(".weight")
            found[name] = (weight.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
            found[f"{layer}.weight_scale"] = torch.tensor(scale)
            text = json.dumps({"format": "float8_e4m3fn"}).encode()
            found[f"{layer}.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
    return found
