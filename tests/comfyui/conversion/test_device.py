"""Conversions under a node do their arithmetic where ComfyUI does its own."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.parametrize(
    ("device", "name"),
    [("cuda:1", "cuda:1"), ("cpu", "cpu"), ("mps", "cpu")],
    ids=["a card", "the CPU", "what nobody converts on"],
)
def test_it_is_comfyuis_device(
    comfy_is_there: None, monkeypatch: pytest.MonkeyPatch, device: str, name: str
) -> None:
    import comfy.model_management
    from luna_collection.nodes.precision.model_places import watched

    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device(device))
    with watched() as run:
        assert run.device == name
