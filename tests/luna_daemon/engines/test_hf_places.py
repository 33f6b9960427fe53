"""A module moves whole or not at all, and computes the same afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.engines.hf.engine import HfEngine
from luna_collection.luna_daemon.engines.hf.places import replace_weights


def places(module: Any) -> list[int]:
    return [weight.data_ptr() for weight in [*module.parameters(), *module.buffers()]]


def test_weights_that_moved_are_others_with_the_same_values(load: Any, sdxl: Path) -> None:
    module = load(sdxl / "text_encoder", "clip_l").model.module
    ids = torch.full((1, 77), 5)
    before, at = module(ids).last_hidden_state, places(module)
    assert replace_weights(module, torch.Tensor.clone) is True
    assert not set(at) & set(places(module))
    assert torch.equal(module(ids).last_hidden_state, before)


def test_when_memory_runs_out_on_the_way_every_weight_is_where_it_was(
    load: Any, sdxl: Path
) -> None:
    module = load(sdxl / "vae", "vae").model.module
    at, copied = places(module), 0

    def copy(weight: torch.Tensor) -> torch.Tensor:
        nonlocal copied
        copied += 1
        if copied == len(at):
            raise torch.OutOfMemoryError("no")
        return weight.clone()

    assert replace_weights(module, copy) is False
    assert places(module) == at


def test_another_error_than_lack_of_memory_is_not_hidden(load: Any, sdxl: Path) -> None:
    def copy(weight: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken device")

    with pytest.raises(RuntimeError, match="broken device"):
        replace_weights(load(sdxl / "vae", "vae").model.module, copy)


def test_a_model_that_slept_decodes_the_same(
    engine: HfEngine, load: Any, decode: Any, vae: Any
) -> None:
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    before = decode(latent)
    engine.move(vae, "ram")
    engine.move(vae, "device")
    assert torch.equal(decode(latent), before)
