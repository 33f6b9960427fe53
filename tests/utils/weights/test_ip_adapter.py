from __future__ import annotations

from pathlib import Path

import pytest
import torch
from luna_collection.utils.errors import ModelFileError
from luna_collection.utils.weights.ip_adapter import split_ip_adapter

PATH = Path("models/ipadapter/ip-adapter_sdxl.safetensors")
PROJ, SD15, SDXL = torch.ones(1), torch.zeros(4, 768), torch.zeros(4, 2048)


@pytest.mark.parametrize(
    "weights",
    [
        {"image_proj.proj.weight": PROJ, "ip_adapter.1.to_k_ip.weight": SDXL},
        {"image_proj": {"proj.weight": PROJ}, "ip_adapter": {"1.to_k_ip.weight": SDXL}},
    ],
    ids=["flat names", "two tables"],
)
def test_both_forms_give_the_same_halves(weights):
    state = split_ip_adapter(weights, PATH)
    assert state["image_proj"]["proj.weight"] is PROJ
    assert state["ip_adapter"]["1.to_k_ip.weight"] is SDXL
    assert (state["path"], state["is_sdxl"]) == (str(PATH), True)


def test_the_width_of_the_text_tells_the_family():
    weights = {"image_proj.a": PROJ, "ip_adapter.1.to_k_ip.weight": SD15}
    assert split_ip_adapter(weights, PATH)["is_sdxl"] is False


@pytest.mark.parametrize("half", ["image_proj", "ip_adapter"])
def test_a_file_without_a_half_is_refused(half):
    weights = {"image_proj.a": PROJ, "ip_adapter.a": PROJ}
    del weights[f"{half}.a"]
    with pytest.raises(ModelFileError, match=f"has no '{half}'"):
        split_ip_adapter(weights, PATH)
