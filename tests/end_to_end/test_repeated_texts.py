"""A text that was encoded before is answered by the daemon's own process, as if it were encoded again."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.demo.tiny_models import make_sd15_like
from luna_collection.luna_daemon.errors import DeadlineError, NotFoundError

from .conftest import SD15, SDXL, Background, Daemon, latents, wait_until

SETTINGS = {"heartbeat_timeout_s": 60}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Any:
    running = Daemon(tmp_path_factory.mktemp("d"), models, **SETTINGS)
    yield running
    assert running.stop() == 0, running.log.read_text()


def counter(daemon: Daemon, name: str) -> int:
    return sum(n for shown, n in daemon.status()["counters"].items() if shown.startswith(name))


@pytest.mark.parametrize(("family", "names"), [("SD1.5", SD15), ("SDXL", SDXL)])
def test_the_second_answer_is_the_first_bit_for_bit_and_counts_as_a_hit(
    daemon: Daemon, family: str, names: dict[str, str]
) -> None:
    client = daemon.client()
    client.get_model_proxies("w", family, names)
    before = daemon.status()
    first = client.clip_encode(("said twice", family), workflow_id="w", clip_skip=1)
    again = client.clip_encode(("said twice", family), workflow_id="w", clip_skip=1)
    after = daemon.status()
    assert (first.cache_hit, again.cache_hit) == (False, True)
    assert torch.equal(first.cond, again.cond)
    assert first.pooled is not None
    assert again.pooled is not None
    assert torch.equal(first.pooled, again.pooled)
    assert after["answer_cache"]["hits"] == before["answer_cache"]["hits"] + 1
    assert after["answer_cache"]["entries"] > before["answer_cache"]["entries"]
    assert after["answer_cache"]["nbytes"] > before["answer_cache"]["nbytes"]
    name = "conditioning_cache_hit"
    assert after["counters"][name] == before["counters"].get(name, 0) + 1
    name = "inference_count{operation=encode_text}"
    assert after["counters"][name] == before["counters"].get(name, 0) + 1
    daemon.close_clients()


def test_what_was_said_about_a_text_is_said_again(daemon: Daemon) -> None:
    client = daemon.client(on_note=lambda text: None)
    client.get_model_proxies("w", "SD1.5", SD15)
    long = "word " * 200
    notes = [client.clip_encode(long, workflow_id="w").notes for _ in range(2)]
    assert "too long" in notes[0][0]
    assert notes[0] == notes[1]
    daemon.close_clients()


def test_changing_an_answer_in_place_changes_no_later_one(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SD1.5", SD15)
    first = client.clip_encode("mine", workflow_id="w").cond
    expected = first.clone()
    first.zero_()
    client.clip_encode("mine", workflow_id="w").cond.zero_()
    assert torch.equal(client.clip_encode("mine", workflow_id="w").cond, expected)
    daemon.close_clients()


def test_who_has_registered_nothing_gets_nothing_that_others_asked_for(daemon: Daemon) -> None:
    one, two = daemon.client(), daemon.client()
    one.get_model_proxies("one", "SD1.5", SD15)
    one.clip_encode("known to one", workflow_id="one")
    assert one.clip_encode("known to one", workflow_id="one").cache_hit
    for workflow in ("one", "two"):
        with pytest.raises(NotFoundError):
            two.clip_encode("known to one", workflow_id=workflow)
    one.release("one")
    with pytest.raises(NotFoundError):
        one.clip_encode("known to one", workflow_id="one")
    daemon.close_clients()


def test_no_time_is_no_answer(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SD1.5", SD15)
    client.clip_encode("in no time", workflow_id="w")
    with pytest.raises(DeadlineError):
        client.clip_encode("in no time", workflow_id="w", timeout_s=0)
    assert client.clip_encode("in no time", workflow_id="w").cache_hit
    daemon.close_clients()


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows cannot stop a process and let it go on"
)
def test_a_known_text_is_answered_while_the_worker_is_busy(daemon: Daemon) -> None:
    client = daemon.client()
    client.get_model_proxies("w", "SDXL", SDXL)
    known = client.clip_encode("known", workflow_id="w").cond
    worker = daemon.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    try:
        decode = Background(lambda: client.vae_decode(latents(), workflow_id="w"))
        wait_until(lambda: counter(daemon, "inference_count{operation=decode_latent}") > 0)
        asked = Background(lambda: client.clip_encode("not known yet", workflow_id="w"))
        again = client.clip_encode("known", workflow_id="w", timeout_s=30)
        assert again.cache_hit
        assert torch.equal(again.cond, known)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert decode.result().shape[0] == 1
    assert not asked.result().cache_hit
    daemon.close_clients()


def test_a_file_that_is_replaced_under_its_name_is_another_model(
    start_daemon: Any, tmp_path: Path
) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        make_sd15_like(tmp_path / "spare" / name, seed=seed)
    folder = tmp_path / "models"
    shutil.copytree(tmp_path / "spare" / "one", folder / "m")
    daemon = start_daemon(model_folder=folder)
    client = daemon.client()
    names = {"clip_l": "m/text_encoder"}
    first_keys = client.get_model_proxies("w", "SD1.5", names).keys
    first = client.clip_encode("a fox", workflow_id="w")
    assert client.clip_encode("a fox", workflow_id="w").cache_hit
    shutil.rmtree(folder / "m")
    shutil.copytree(tmp_path / "spare" / "two", folder / "m")
    assert client.get_model_proxies("w", "SD1.5", names).keys != first_keys
    second = client.clip_encode("a fox", workflow_id="w")
    assert not second.cache_hit
    assert not torch.equal(first.cond, second.cond)


def test_without_the_cache_a_worker_answers(start_daemon: Any) -> None:
    daemon = start_daemon(answer_cache_mb=0)
    client = daemon.client()
    client.get_model_proxies("w", "SD1.5", SD15)
    first = client.clip_encode("said twice", workflow_id="w")
    again = client.clip_encode("said twice", workflow_id="w")
    status = daemon.status()
    assert again.cache_hit
    assert torch.equal(first.cond, again.cond)
    assert status["answer_cache"] == {"entries": 0, "nbytes": 0, "hits": 0}
    assert status["counters"]["inference_count{operation=encode_text}"] == 2


def test_an_answer_above_the_bound_is_left_to_the_worker(start_daemon: Any) -> None:
    daemon = start_daemon(answer_cache_largest_kb=64)
    client = daemon.client()
    client.get_model_proxies("w", "SD1.5", SD15)
    texts = tuple(f"text {n}" for n in range(64))
    for many, hits in ((texts, 0), (texts[:1], 1)):
        first = client.clip_encode(many, workflow_id="w")
        again = client.clip_encode(many, workflow_id="w")
        assert again.cache_hit
        assert torch.equal(first.cond, again.cond)
        assert daemon.status()["answer_cache"]["hits"] == hits
