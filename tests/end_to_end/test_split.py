"""Two daemons, one for text encoders and one for VAEs, look like one to a client."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.client import DaemonClient
from luna_collection.luna_daemon.errors import DaemonUnreachableError

from .conftest import SD15, SDXL, Daemon, latents


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def split(start_daemon: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Daemon, Daemon]:
    folder, ports = tmp_path_factory.mktemp("d"), (free_port(), free_port())
    clip = start_daemon(folder=folder, service_type="clip", port=ports[0])
    vae = start_daemon(folder=folder, service_type="vae", port=ports[1])
    clip.config = dataclasses.replace(clip.config, vae_port=ports[1])
    return clip, vae


def test_one_client_sees_both_daemons_as_one(split: tuple[Daemon, Daemon]) -> None:
    clip, vae = split
    client = clip.client()
    keys = client.get_model_proxies("w", "SDXL", SDXL).keys
    assert set(keys) == {"clip_l", "clip_g", "vae"}
    assert client.clip_encode("a fox", workflow_id="w").cond.shape[:2] == (1, 77)
    assert client.vae_decode(latents(side=48), workflow_id="w").shape == (1, 384, 384, 3)
    assert {m["role"] for m in clip.models()} == {"clip_l", "clip_g"}
    assert {m["role"] for m in vae.models()} == {"vae"}
    status = client.status()
    assert status["service_type"] == "clip"
    assert status["vae_daemon"]["service_type"] == "vae"
    client.release("w")
    assert not clip.status()["workflows"]
    assert not vae.status()["workflows"]


def test_the_other_daemon_may_be_restarted_between_calls(
    split: tuple[Daemon, Daemon], start_daemon: Any
) -> None:
    clip, vae = split
    client = clip.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    before = client.vae_decode(latents(), workflow_id="w")
    vae.kill()
    assert client.clip_encode("still served", workflow_id="w").cond.shape[0] == 1
    with pytest.raises(DaemonUnreachableError):
        client.vae_decode(latents(), workflow_id="w")
    assert client.status()["vae_daemon"] is None
    start_daemon(folder=vae.folder, service_type="vae", port=vae.config.listen_port)
    assert torch.equal(client.vae_decode(latents(), workflow_id="w"), before)


def test_a_workflow_without_a_vae_needs_no_second_daemon(start_daemon: Any, tmp_path: Path) -> None:
    daemon = start_daemon(service_type="clip")
    with DaemonClient(config=daemon.config) as client:
        client.get_model_proxies("w", "SD1.5", {"clip_l": SD15["clip_l"]})
        assert client.clip_encode("a", workflow_id="w").cond.shape[0] == 1
