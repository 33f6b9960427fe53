"""LoRAs on models whose file has fewer bits: what a chain of stock loaders gives on the same model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ..conversion.conftest import Family, family, sample
from ..router_models import write
from .conftest import stock_chain

__all__ = ["family"]
LAYERS = {
    "lora_unet_double_blocks_0_img_attn_qkv": (768, 256),
    "lora_unet_single_blocks_1_linear1": (1792, 256),
    # As diffusers calls them: each is a part of a layer.
    "transformer.transformer_blocks.1.attn.to_k": (256, 256),
    "transformer.single_transformer_blocks.0.proj_mlp": (1024, 256),
}


@pytest.fixture(autouse=True)
def fresh_library(lora_folder: Any) -> None:
    from luna_collection.nodes.lora.library import cache

    cache.cache_clear()


def lora(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, (rows, columns) in LAYERS.items():
        for end, size in (("up", (rows, 4)), ("down", (4, columns))):
            numbers = torch.randn(size, generator=generator) * 0.1
            weights[f"{name}.lora_{end}.weight"] = numbers.half()
    return weights


@pytest.mark.parametrize("target", ["fp8_e4m3fn", "fp8_e4m3fn_scaled", "mxfp8", "nvfp4"])
def test_a_set_is_what_a_chain_of_stock_loaders_is(
    family: Callable[[str], Family],
    lora_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
):
    import folder_paths
    from luna_collection.nodes.lora.transient import with_loras
    from luna_collection.utils.conversion.converting import converted_once
    from luna_collection.utils.loras.stack import LoraEntry

    import nodes

    source = family("flux")
    path = converted_once(source.file, target, tmp_path).path
    place = ([str(path.parent)], {".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusion_models", place)
    model = nodes.UNETLoader().load_unet(path.name, "default")[0]
    entries = [(f"flux/small {seed}.safetensors", 0.8 / seed, 0.0) for seed in (1, -2)]
    for number, (name, _, _) in enumerate(entries):
        write(lora_folder, name, lora(number))
    folder_paths.filename_list_cache.pop("loras", None)
    plain = sample(model, source)
    wanted = sample(stock_chain(model, None, entries)[0], source)
    assert not torch.equal(wanted, plain)
    exact, fast = (
        with_loras(model, None, [LoraEntry(*entry) for entry in entries], fast=fast)
        for fast in (False, True)
    )
    assert [report.unused for report in exact.reports] == [0, 0]
    assert torch.equal(sample(exact.model, source), wanted)
    assert float((sample(fast.model, source) - wanted).norm() / wanted.norm()) < 0.01
    assert torch.equal(sample(model, source), plain)
