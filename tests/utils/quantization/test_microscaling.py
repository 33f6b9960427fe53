from __future__ import annotations

from pathlib import Path

import pytest
import torch
from luna_collection.utils.conversion.converting import converted_once
from luna_collection.utils.conversion.refusal import ConversionRefusedError, Reason
from luna_collection.utils.errors import InputError
from luna_collection.utils.quantization import microscaling
from safetensors.torch import save_file


@pytest.fixture
def without_kitchen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microscaling, "_kitchen", lambda: None)


@pytest.mark.usefixtures("without_kitchen")
@pytest.mark.parametrize("name", microscaling.FORMATS)
def test_formats_are_not_offered_without_the_package(name: str) -> None:
    assert not microscaling.is_offered(name)
    with pytest.raises(InputError, match="needs the package comfy-kitchen"):
        microscaling.quantize_layer(torch.zeros(32, 32), name)


@pytest.mark.usefixtures("without_kitchen")
@pytest.mark.parametrize("name", microscaling.FORMATS)
def test_conversion_to_them_is_refused_without_the_package(name: str, tmp_path: Path) -> None:
    source = tmp_path / "flux.safetensors"
    names = ["double_blocks.0.img_attn.qkv.weight", "double_blocks.0.img_attn.norm.key_norm.scale"]
    save_file({key: torch.zeros(256, 256) for key in [*names, "img_in.weight"]}, source)
    with pytest.raises(ConversionRefusedError, match="needs the package comfy-kitchen") as refusal:
        converted_once(source, name, tmp_path / "models")
    assert refusal.value.reason is Reason.ABSENT
