from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.engines.engine import EngineSettings, SilentControl
from luna_collection.luna_daemon.engines.hf.engine import HfEngine
from luna_collection.luna_daemon.errors import BadRequestError
from luna_collection.luna_daemon.protocol.work import DecodeLatent, Echo, EncodeText

TEXT, VAE = "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"
Load = Callable[..., Any]


def test_versions_name_the_libraries(engine: HfEngine) -> None:
    assert engine.name == "hf"
    assert set(engine.versions()) == {"torch", "transformers", "diffusers"}


def test_work_of_another_kind_is_refused() -> None:
    engine = HfEngine(EngineSettings(device="cpu"))
    with pytest.raises(BadRequestError, match="cannot do 'Echo'"):
        engine.run(Echo(tensor=0), "SD1.5", {}, (), SilentControl())


def test_work_without_its_model_or_tensor_is_refused(load: Load, sd15: Path) -> None:
    engine = HfEngine(EngineSettings(device="cpu"))
    with pytest.raises(BadRequestError, match="needs a VAE"):
        engine.run(DecodeLatent(latent=0), "SD1.5", {}, (), SilentControl())
    with pytest.raises(BadRequestError, match="needs the text encoder 'clip_l'"):
        engine.run(EncodeText(texts=("a",)), "SD1.5", {}, (), SilentControl())
    vae = {"vae": load(sd15 / "vae", "vae")}
    with pytest.raises(BadRequestError, match="names tensor 1, but has 1"):
        engine.run(DecodeLatent(latent=1), "SD1.5", vae, (torch.zeros(1),), SilentControl())


def test_nothing_asks_the_network(load: Load, sd15: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    load(sd15 / "text_encoder", "clip_l")
    load(sd15 / "vae", "vae")


def test_a_vae_that_was_unloaded_gives_its_memory_back(
    engine: HfEngine, load: Load, sd15: Path
) -> None:
    resident = load(sd15 / "vae", "vae")
    engine.unload(resident)
    assert all(weight.is_meta for weight in resident.model.module.parameters())
