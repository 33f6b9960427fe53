"""Small files that ComfyUI takes for real models: true names and shapes, random weights.

What cannot shrink: CLIP-L and CLIP-G, whose configurations are fixed. What can: U-Nets and VAEs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

DTYPE = torch.float16
LORA_NAME = "style.safetensors"
Weights = dict[str, torch.Tensor]


class Maker:
    """Collects random tensors. Large ones repeat a smaller one: random numbers take their time."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.weights: Weights = {}

    def random(self, name: str, *shape: int, std: float | None = None) -> None:
        """Add a tensor of normal numbers; default: of a size that keeps activations steady."""
        fan = torch.Size(shape[1:]).numel() if len(shape) > 1 else 1
        count = torch.Size(shape).numel()
        numbers = torch.randn(min(count, 1 << 20), generator=self._generator)
        whole = numbers.repeat(-(-count // len(numbers)))[:count].reshape(shape)
        self.weights[name] = (whole * (fan**-0.5 if std is None else std)).to(DTYPE)

    def norm(self, name: str, width: int) -> None:
        """Add a normalisation that changes nothing."""
        self.weights[f"{name}.weight"] = torch.ones(width, dtype=DTYPE)
        self.weights[f"{name}.bias"] = torch.zeros(width, dtype=DTYPE)

    def linear(self, name: str, width: int, out: int, bias: bool = True, std: float = 0.02) -> None:
        """Add a linear layer."""
        self.random(f"{name}.weight", out, width, std=std)
        if bias:
            self.weights[f"{name}.bias"] = torch.zeros(out, dtype=DTYPE)

    def conv(self, name: str, width: int, out: int, kernel: int = 3, bias: bool = True) -> None:
        """Add a convolution."""
        self.random(f"{name}.weight", out, width, kernel, kernel)
        if bias:
            self.weights[f"{name}.bias"] = torch.zeros(out, dtype=DTYPE)


def clip_text(seed: int, width: int, layers: int, *, projection: bool = False) -> Weights:
    """Return a CLIP text encoder in Hugging Face's layout."""
    maker = Maker(seed)
    maker.random("text_model.embeddings.token_embedding.weight", 49408, width, std=0.02)
    maker.random("text_model.embeddings.position_embedding.weight", 77, width, std=0.01)
    for number in range(layers):
        layer = f"text_model.encoder.layers.{number}."
        maker.norm(f"{layer}layer_norm1", width)
        maker.norm(f"{layer}layer_norm2", width)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            maker.linear(f"{layer}self_attn.{part}", width, width)
        maker.linear(f"{layer}mlp.fc1", width, 4 * width)
        maker.linear(f"{layer}mlp.fc2", 4 * width, width)
    maker.norm("text_model.final_layer_norm", width)
    if projection:
        maker.random("text_projection.weight", width, width, std=0.02)
    return maker.weights


def taesd(seed: int, channels: int = 4, width: int = 64) -> Weights:
    """Return the tiny VAE, encoder and decoder in one file."""
    maker = Maker(seed)

    def block(name: str) -> None:
        for part in (0, 2, 4):
            maker.conv(f"{name}.conv.{part}", width, width)

    side = "taesd_encoder."
    maker.conv(f"{side}0", 3, width)
    block(f"{side}1")
    for first in (2, 6, 10):
        maker.conv(f"{side}{first}", width, width, bias=False)
        for number in (first + 1, first + 2, first + 3):
            block(f"{side}{number}")
    maker.conv(f"{side}14", width, channels)
    side = "taesd_decoder."
    maker.conv(f"{side}1", channels, width)
    for first in (3, 8, 13):
        for number in (first, first + 1, first + 2):
            block(f"{side}{number}")
        maker.conv(f"{side}{first + 4}", width, width, bias=False)  # between them: upsampling
    block(f"{side}18")
    maker.conv(f"{side}19", width, 3)
    return maker.weights


class Unet(Maker):
    """A U-Net with one residual block per level, every level 320 channels wide.

    Args:
        seed: Of the weights.
        depths: Transformer blocks of each level, from the outermost.
        context: Width of the text.
        pooled: Width of the vector beside the text; SDXL has one, and linear projections.
    """

    WIDTH = 320

    def __init__(self, seed: int, depths: tuple[int, ...], context: int, pooled: int = 0) -> None:
        super().__init__(seed)
        self.context, self.pooled = context, pooled
        self.linear("time_embed.0", self.WIDTH, 4 * self.WIDTH)
        self.linear("time_embed.2", 4 * self.WIDTH, 4 * self.WIDTH)
        if pooled:
            self.linear("label_emb.0.0", pooled, 4 * self.WIDTH)
            self.linear("label_emb.0.2", 4 * self.WIDTH, 4 * self.WIDTH)
        self.conv("input_blocks.0.0", 4, self.WIDTH)
        number = 1
        for level, depth in enumerate(depths):
            self._block(f"input_blocks.{number}", self.WIDTH, depth)
            number += 1
            if level + 1 < len(depths):
                self.conv(f"input_blocks.{number}.0.op", self.WIDTH, self.WIDTH)
                number += 1
        levels = [(level, depth) for level, depth in enumerate(depths) for _ in range(2)]
        for number, (level, depth) in enumerate(reversed(levels)):
            self._block(f"output_blocks.{number}", 2 * self.WIDTH, depth)
            if level and number % 2:
                place = 2 if depth else 1
                self.conv(f"output_blocks.{number}.{place}.conv", self.WIDTH, self.WIDTH)
        self.norm("out.0", self.WIDTH)
        self.conv("out.2", self.WIDTH, 4)

    def _block(self, name: str, inputs: int, depth: int) -> None:
        self.norm(f"{name}.0.in_layers.0", inputs)
        self.conv(f"{name}.0.in_layers.2", inputs, self.WIDTH)
        self.linear(f"{name}.0.emb_layers.1", 4 * self.WIDTH, self.WIDTH)
        self.norm(f"{name}.0.out_layers.0", self.WIDTH)
        self.conv(f"{name}.0.out_layers.3", self.WIDTH, self.WIDTH)
        if inputs != self.WIDTH:
            self.conv(f"{name}.0.skip_connection", inputs, self.WIDTH, 1)
        if depth:
            self._transformer(f"{name}.1", depth)

    def _transformer(self, name: str, depth: int) -> None:
        self.norm(f"{name}.norm", self.WIDTH)
        for part in ("proj_in", "proj_out"):
            if self.pooled:
                self.linear(f"{name}.{part}", self.WIDTH, self.WIDTH)
            else:
                self.conv(f"{name}.{part}", self.WIDTH, self.WIDTH, 1)
        for number in range(depth):
            block = f"{name}.transformer_blocks.{number}."
            for part, source in (("attn1", self.WIDTH), ("attn2", self.context)):
                self.linear(f"{block}{part}.to_q", self.WIDTH, self.WIDTH, bias=False)
                self.linear(f"{block}{part}.to_k", source, self.WIDTH, bias=False)
                self.linear(f"{block}{part}.to_v", source, self.WIDTH, bias=False)
                self.linear(f"{block}{part}.to_out.0", self.WIDTH, self.WIDTH)
            self.linear(f"{block}ff.net.0.proj", self.WIDTH, 8 * self.WIDTH)
            self.linear(f"{block}ff.net.2", 4 * self.WIDTH, self.WIDTH)
            for part in ("norm1", "norm2", "norm3"):
                self.norm(f"{block}{part}", self.WIDTH)


def under(prefix: str, weights: Mapping[str, torch.Tensor]) -> Weights:
    """Return weights under a prefix."""
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def write(models: Path, name: str, weights: Mapping[str, torch.Tensor]) -> Path:
    """Write a file below the models folder."""
    path = models / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return path


def make_sd15(models: Path) -> None:
    """Write an SD1.5 checkpoint with CLIP-L and VAE, and the three as files of their own."""
    clip, vae, model = clip_text(1, 768, 12), taesd(2), Unet(3, (1,), 768).weights
    write(
        models,
        "checkpoints/v1-5-pruned-emaonly-fp16.safetensors",
        {
            **under("model.diffusion_model.", model),
            **under("cond_stage_model.transformer.", clip),
            **under("first_stage_model.", vae),
        },
    )
    write(models, "diffusion_models/sd15_unet.safetensors", under("model.diffusion_model.", model))
    write(models, "text_encoders/clip_l.safetensors", clip)
    write(models, "vae/sdxl_vae.safetensors", vae)


def make_sdxl(models: Path) -> None:
    """Write a small model of the SDXL family without text encoders, and CLIP-G; CLIP-L is SD1.5's."""
    model = Unet(4, (0, 2, 5), 2048, pooled=2816).weights
    write(models, "checkpoints/sd_xl_base_1.0.safetensors", under("model.diffusion_model.", model))
    write(models, "text_encoders/clip_g.safetensors", clip_text(5, 1280, 32, projection=True))


def make_lora(models: Path, rank: int = 4) -> None:
    """Write a LoRA for the text encoder and the U-Net of `make_sd15`."""
    maker = Maker(6)
    targets = [
        (f"lora_te_text_model_encoder_layers_{layer}_{part}", width, out)
        for layer in range(12)
        for part, width, out in (("self_attn_q_proj", 768, 768), ("mlp_fc1", 768, 3072))
    ]
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
    targets += [(f"{block}attn2_to_k", 768, 320), (f"{block}ff_net_2", 1280, 320)]
    for name, width, out in targets:
        maker.random(f"{name}.lora_down.weight", rank, width, std=0.05)
        maker.random(f"{name}.lora_up.weight", out, rank, std=0.05)
        maker.weights[f"{name}.alpha"] = torch.tensor(float(rank), dtype=DTYPE)
    write(models, f"loras/{LORA_NAME}", maker.weights)


def make_ip_adapter(models: Path) -> None:
    """Write a file with the two halves of an IP-Adapter."""
    maker = Maker(7)
    maker.linear("image_proj.proj", 1024, 3072)
    maker.linear("ip_adapter.1.to_k_ip", 768, 320, bias=False)
    write(models, "ipadapter/tiny.safetensors", maker.weights)
