"""Parts that were taken out of a checkpoint are, in stock ComfyUI, those that it has inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.demo.comfyui.models import Unet, clip_text, make_sd15, taesd, under
from luna_collection.luna_daemon.demo.comfyui.workflows import SD15
from luna_collection.utils.conversion.taking_apart import take_apart

from ..router_models import write


def sd15(folder: Path) -> Path:
    make_sd15(folder / "made")
    return folder / "made" / "checkpoints" / SD15


def sdxl(folder: Path) -> Path:
    """Write a checkpoint whose large text encoder has OpenCLIP's layout, as published ones do."""
    from comfy.diffusers_convert import convert_text_enc_state_dict_v20

    large = convert_text_enc_state_dict_v20(
        under("clip_g.", under("transformer.", clip_text(5, 1280, 32, projection=True))), "clip_g"
    )
    large = {name.removeprefix("clip_g."): tensor for name, tensor in large.items()}
    parts = {
        **under("model.diffusion_model.", Unet(4, (0, 2, 5), 2048, pooled=2816).weights),
        **under("conditioner.embedders.0.transformer.", clip_text(1, 768, 12)),
        **under("conditioner.embedders.1.model.", large),
        **under("first_stage_model.", taesd(2)),
    }
    return write(folder, "sdxl.safetensors", parts)


@pytest.mark.parametrize(("make", "kinds"), [(sd15, ["clip_l"]), (sdxl, ["clip_l", "clip_g"])])
def test_they_are_what_comfyui_finds_inside(
    comfy_is_there: None, tmp_path: Path, make: Any, kinds: list[str]
) -> None:
    import comfy.sd
    import comfy.utils

    checkpoint = make(tmp_path)
    _, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_model=False)

    parts = take_apart(checkpoint, tmp_path)

    assert list(parts) == [*kinds, "vae"]
    own_clip = comfy.sd.load_clip([str(parts[kind].path) for kind in kinds])
    text = own_clip.tokenize("a lighthouse")
    for found, inside in zip(
        own_clip.encode_from_tokens(text, return_pooled=True),
        clip.encode_from_tokens(text, return_pooled=True),
        strict=True,
    ):
        assert torch.equal(found, inside)
    own_vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(parts["vae"].path)))
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(own_vae.decode(latent), vae.decode(latent))
