from __future__ import annotations

import pytest
import torch
from luna_collection.utils.errors import InputError
from luna_collection.utils.quantization import microscaling


@pytest.fixture
def without_kitchen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microscaling, "_kitchen", lambda: None)


@pytest.mark.usefixtures("without_kitchen")
@pytest.mark.parametrize("name", microscaling.FORMATS)
def test_formats_are_not_offered_without_the_package(name: str) -> None:
    assert not microscaling.is_offered(name)
    with pytest.raises(InputError, match="needs the package comfy-kitchen"):
        microscaling.quantize_layer(torch.zeros(32, 32), name)
