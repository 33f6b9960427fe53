"""VAEs, image encoders, and what is added to a model: LoRAs, ControlNets, IP-Adapters."""

from __future__ import annotations

from .contents import Contents, FileKind, Shapes

_LORA_ENDINGS = (
    ".lora_down.weight",
    ".lora_A.weight",
    ".lora_A.default.weight",
    ".lora.down.weight",
    "_lora.down.weight",
    ".lora_linear_layer.down.weight",
    ".hada_w1_a",
    ".lokr_w1",
    ".lokr_w1_a",
    ".oft_blocks",
    ".oft_diag",
)
_CONTROLNET_NAMES = (
    "controlnet_cond_embedding.conv_in.weight",
    "control_model.zero_convs.0.0.weight",
    "zero_convs.0.0.weight",
    "controlnet_blocks.0.weight",
    "controlnet_mode_embedder.weight",
    "lora_controlnet",
)
_VISION_NAMES = (
    "vision_model.encoder.layers.0.layer_norm1.weight",
    "visual.transformer.resblocks.0.attn.in_proj_weight",
    "encoder.layer.0.layer_scale1.lambda1",  # DINOv2
)
# A VAE's first decoder layer, and the axis of its shape that has the latent's channels.
_DECODER_INPUTS = {
    "decoder.conv_in.weight": 1,
    "decoder.conv_in.conv.weight": 1,  # causal video VAEs
    "taesd_decoder.1.weight": 1,
    "decoder.conv1.weight": 1,  # Wan
}
_OTHER_VAE_NAMES = (
    "decoder.middle.0.residual.0.gamma",
    "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight",
    "decoder.layers.1.layers.0.beta",  # audio
    "decoder.layers.3.transformers.0.pre_norm.alpha",  # Stable Audio 3
    "vocoder.backbone.channel_layers.0.0.bias",  # ACE-Step
    "vocoder.activation_post.downsample.lowpass.filter",  # MMAudio
    "vquantizer.codebook.weight",  # Stable Cascade's stages A and C
    "backbone.1.0.block.0.1.num_batches_tracked",
    "blocks.11.num_batches_tracked",
    "encoder.backbone.1.0.block.0.1.num_batches_tracked",
    "geo_decoder.cross_attn_decoder.ln_1.bias",  # Hunyuan3D
)
_VIDEO_VAE_NAMES = (
    "decoder.22.bias",  # TAEHV and its relatives
    "decoder.unpatcher3d.wavelets",  # Cosmos
    "blocks.2.blocks.3.stack.5.weight",  # Mochi: the decoder alone, and both
    "decoder.blocks.2.blocks.3.stack.5.weight",
)
_VIDEO_DIMS = 5  # of a kernel that goes along time, too


def detect_lora(shapes: Shapes) -> Contents | None:
    """Know a LoRA of any of the usual forms."""
    if any(name.endswith(_LORA_ENDINGS) for name in shapes):
        return Contents(FileKind.LORA)
    return None


def detect_ip_adapter(shapes: Shapes) -> Contents | None:
    """Know an IP-Adapter: its attention weights and its projection of the image."""
    if any(name.startswith("ip_adapter.") for name in shapes):
        return Contents(FileKind.IP_ADAPTER)
    return None


def detect_controlnet(shapes: Shapes) -> Contents | None:
    """Know a ControlNet."""
    if any(name in shapes for name in _CONTROLNET_NAMES):
        return Contents(FileKind.CONTROLNET)
    return None


def detect_clip_vision(shapes: Shapes) -> Contents | None:
    """Know an image encoder."""
    if any(name in shapes for name in _VISION_NAMES):
        return Contents(FileKind.CLIP_VISION)
    return None


def detect_vae(shapes: Shapes) -> Contents | None:
    """Know a VAE, and the channels of its latents where the first decoder layer tells."""
    for name, axis in _DECODER_INPUTS.items():
        shape = shapes.get(name)
        if shape is not None and len(shape) > axis:
            is_video = len(shape) == _VIDEO_DIMS
            return Contents(FileKind.VAE, latent_channels=shape[axis], is_video=is_video)
    if any(name in shapes for name in _VIDEO_VAE_NAMES):
        return Contents(FileKind.VAE, is_video=True)
    if any(name in shapes for name in _OTHER_VAE_NAMES):
        return Contents(FileKind.VAE)
    return None
