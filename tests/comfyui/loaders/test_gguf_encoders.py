"""Text encoders that are shared where some of them come from GGUF files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ..engine.random_weights import text_lora
from ..proxy import gguf_encoders, narrow_encoders
from ..proxy.comparing import assert_differ, assert_same, encode, with_lora
from .test_second_model import shares, take_over


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ComfyUI build a narrow T5, here and in our code."""
    import comfy.sd

    build = comfy.sd.load_text_encoder_state_dicts

    def narrower(*args: Any, model_options: Any = None, **options: Any) -> Any:
        return build(
            *args, model_options={**narrow_encoders.OPTIONS, **(model_options or {})}, **options
        )

    monkeypatch.setattr(comfy.sd, "load_text_encoder_state_dicts", narrower)


def sd3(folder: Path) -> Path:
    """Return a file that is known as a diffusion model of SD3."""
    import torch

    from ..router_models import write

    name = "joint_blocks.0.context_block.attn.qkv.weight"
    return write(folder, "diffusion_models/sd3.safetensors", {name: torch.zeros(4608, 1536)})


def of_files(kind: str, *files: Path) -> Any:
    import comfy.sd

    return comfy.sd.load_clip(
        [str(file) for file in files], clip_type=getattr(comfy.sd.CLIPType, kind)
    )


def test_a_gguf_encoder_is_added_to_shared_ones(stock, model_files):
    gguf, plain = gguf_encoders.make(model_files, "t5")
    of = stock("sdxl")
    clip, told = take_over(of.clip, sd3(model_files), "SD3", gguf)
    wanted = of_files("SD3", *of.encoders, plain)
    assert_same(encode(clip), encode(wanted))
    assert shares(of.clip, clip, "clip_l")
    assert shares(of.clip, clip, "clip_g")
    assert f"T5-XXL '{gguf.name}'" in told
    lora = text_lora(5)
    assert_same(encode(with_lora(clip, lora)), encode(with_lora(wanted, lora)))
    assert_differ(encode(with_lora(clip, lora)), encode(clip))
    assert_same(encode(of.clip), encode(of_files("STABLE_DIFFUSION", *of.encoders)))


def test_a_gguf_encoder_of_the_first_model_is_shared(stock, model_files):
    import comfy.sd
    from luna_collection.luna_daemon.gguf_models.loading import load_gguf_clip
    from luna_collection.luna_daemon.gguf_models.weight import GgufWeight

    gguf, plain = gguf_encoders.make(model_files, "t5")
    clip_l, clip_g = stock("sdxl").encoders
    first = load_gguf_clip([str(clip_l), str(gguf)], None, comfy.sd.CLIPType.FLUX)
    before = encode(first)
    clip, _ = take_over(first, sd3(model_files), "SD3", clip_g)
    assert_same(encode(clip), encode(of_files("SD3", clip_l, clip_g, plain)))
    assert_same(encode(first), before)
    kinds = [
        {w.kind for w in of.cond_stage_model.parameters() if isinstance(w, GgufWeight)}
        for of in (first, clip)
    ]
    assert kinds[0] == kinds[1] != set()
