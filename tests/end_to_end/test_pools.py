"""Workers that are kept ready, added under load and retired when idle."""

from __future__ import annotations

from typing import Any

import torch

from .conftest import SDXL, Background, latents, wait_until


def test_a_worker_that_is_to_be_ready_is_there_before_the_first_request(start_daemon: Any) -> None:
    daemon = start_daemon(min_clip_workers=1)
    wait_until(lambda: [w["state"] for w in daemon.workers()] == ["idle"], 60)
    pid = daemon.worker_pid()
    daemon.client().get_model_proxies("w", "SDXL", SDXL)
    assert daemon.worker_pid() == pid


def test_without_a_minimum_no_worker_runs_before_the_first_request(start_daemon: Any) -> None:
    assert start_daemon().workers() == []


def test_a_second_worker_helps_while_requests_wait_and_stops_when_idle(start_daemon: Any) -> None:
    daemon = start_daemon(max_vae_workers=2, scale_up_wait_s=0.2, idle_timeout_s=1, max_batch=1)
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    expected = [client.vae_decode(latents(side=48, seed=n), workflow_id="w") for n in range(2)]
    enough: list[bool] = []

    def decode_until_enough(seed: int) -> int:
        count = 0
        while not enough:
            image = client.vae_decode(latents(side=48, seed=seed), workflow_id="w")
            assert torch.equal(image, expected[seed])
            count += 1
        return count

    calls = [Background(lambda n=n: decode_until_enough(n % 2)) for n in range(6)]
    wait_until(lambda: len([w for w in daemon.workers() if w["models"]]) == 2, 120)
    enough.append(True)
    assert all(call.result() for call in calls)
    wait_until(lambda: len(daemon.workers()) == 1)
    assert torch.equal(client.vae_decode(latents(side=48), workflow_id="w"), expected[0])


def test_a_second_worker_does_not_start_without_room_for_its_models(start_daemon: Any) -> None:
    daemon = start_daemon(
        max_vae_workers=2, scale_up_wait_s=0.1, max_batch=1, device_budgets_gb="cpu=0.004"
    )
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    calls = [
        Background(lambda: client.vae_decode(latents(side=48), workflow_id="w")) for _ in range(6)
    ]
    assert all(call.result().shape == (1, 384, 384, 3) for call in calls)
    assert len(daemon.workers()) == 1
