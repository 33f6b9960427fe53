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
    "decoder.22.bias",  # video TAESD
    "vquantizer.codebook.weight",
)


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
            return Contents(FileKind.VAE, latent_channels=shape[axis])
    if any(name in shapes for name in _OTHER_VAE_NAMES):
        return Contents(FileKind.VAE)
    return None
