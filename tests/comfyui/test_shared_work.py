"""Two ComfyUI servers at work on one daemon at once: mixed requests, cancelled, lost and found again."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .comfy_server import BOOT_TIMEOUT_S, ComfyServer, RunFailedError
from .router_models import taesd, write
from .studio import LORAS, Prompt, Studio
from .workflows import STOCK, drawing, pixels, router, showing

pytestmark = pytest.mark.timeout(2 * BOOT_TIMEOUT_S + 300)
REQUESTS = 200  # of both servers together
IN_ONE_PROMPT = 20
FORCED = router(daemon_mode="force_daemon")
AUTO = router(daemon_mode="auto")


@pytest.fixture
def first(studio: Studio) -> ComfyServer:
    return studio.servers[0]


# Mixed requests


def mixed_prompt(loader: Prompt, numbers: range) -> Prompt:
    """Return a prompt with one digest for each number: of a text's conditioning, a latent or an image."""
    prompt = {"1": loader}
    for number in numbers:
        add = _vae_chain if number % 3 else _text_chain
        value = add(prompt, number)
        prompt[f"{number}-end"] = {"class_type": "LunaTestDigest", "inputs": {"value": value}}
    return prompt


def _text_chain(prompt: Prompt, number: int) -> list[Any]:
    chosen = random.Random(number)
    clip: list[Any] = ["1", 1]
    for lora in chosen.sample(sorted(LORAS), chosen.choice((0, 1, 1, 2))):
        inputs = {"lora_name": lora, "strength_model": 0.0, "model": ["1", 0], "clip": clip}
        inputs["strength_clip"] = chosen.choice((0.7, -0.4, 1.0))
        prompt[f"{number}-{lora}"] = {"class_type": "LoraLoader", "inputs": inputs}
        clip = [f"{number}-{lora}", 1]
    skip = chosen.choice((0, -1, -2, -5))
    if skip:
        inputs = {"stop_at_clip_layer": skip, "clip": clip}
        prompt[f"{number}-skip"] = {"class_type": "CLIPSetLastLayer", "inputs": inputs}
        clip = [f"{number}-skip", 0]
    inputs = {"text": f"a (photo:1.{number % 7}) of thing {number}", "clip": clip}
    prompt[f"{number}-text"] = {"class_type": "CLIPTextEncode", "inputs": inputs}
    return [f"{number}-text", 0]


def _vae_chain(prompt: Prompt, number: int) -> list[Any]:
    size = {"width": 64, "height": 48 + 8 * (number % 3), "batch_size": 1, "color": 4099 * number}
    vae = {"vae": ["1", 2]}
    chain = [
        ("EmptyImage", size),
        ("VAEEncode", {"pixels": [f"{number}-EmptyImage", 0], **vae}),
        ("VAEDecode", {"samples": [f"{number}-VAEEncode", 0], **vae}),
    ][: 2 + number // 2 % 2]
    for name, inputs in chain:
        prompt[f"{number}-{name}"] = {"class_type": name, "inputs": inputs}
    return [f"{number}-{chain[-1][0]}", 0]


def digests(server: ComfyServer, loader: Prompt, numbers: range) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(numbers.start, numbers.stop, IN_ONE_PROMPT):
        part = range(start, min(start + IN_ONE_PROMPT, numbers.stop))
        outputs = server.run(mixed_prompt(loader, part))
        found.update({name: output["text"][0] for name, output in outputs.items()})
    return found


def test_not_one_of_many_mixed_requests_gets_anothers_answer(studio, first):
    half = REQUESTS // 2
    wanted = digests(first, STOCK, range(REQUESTS))
    assert len(set(wanted.values())) == REQUESTS, "all answers differ, so a mistake would show"
    with ThreadPoolExecutor() as pool:
        shares = [range(half), range(half, REQUESTS)]
        runs = list(pool.map(lambda s, share: digests(s, FORCED, share), studio.servers, shares))
    assert {**runs[0], **runs[1]} == wanted


# Checkpoints


def test_a_checkpoint_with_parts_of_the_daemon_is_one_for_plain_comfyui(studio, first):
    from safetensors.torch import load_file

    def save(loader: Prompt, name: str) -> dict[str, Any]:
        parts = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}
        inputs = {**parts, "filename_prefix": name}
        first.run({"1": loader, "2": {"class_type": "CheckpointSave", "inputs": inputs}})
        (file,) = (first.base / "output").glob(f"{name}_*.safetensors")
        return load_file(file)

    ours, stock = save(FORCED, "ours"), save(STOCK, "stock")
    assert ours.keys() == stock.keys()
    for name, tensor in ours.items():
        assert (tensor.dtype, tensor.shape) == (stock[name].dtype, stock[name].shape), name
        assert tensor.equal(stock[name]), name
    write(first.base / "models", "checkpoints/saved.safetensors", ours)
    again = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "saved.safetensors"}}
    assert pixels(first.image(drawing(again))) == pixels(first.image(drawing(STOCK)))


# What the daemon does not take


def test_what_cannot_be_shared_is_loaded_here_and_said(first):
    import torch

    file = first.base / "models" / "vae" / "old.pt"
    torch.save(taesd(2), file)
    stock = router(vae_name=file.name)
    outputs = first.run(showing(drawing(router(daemon_mode="auto", vae_name=file.name)), "status"))
    status = outputs["9"]["text"][0]
    assert "CLIP: from checkpoint" in status
    assert "Loaded in this process: 'old.pt' is neither a safetensors nor a GGUF file" in status
    drawn = first.saved({"7": outputs["7"]})
    assert pixels(drawn) == pixels(first.image(drawing(stock)))
    with pytest.raises(RunFailedError, match=r"'old\.pt' is neither a safetensors nor a GGUF file"):
        first.run(drawing(router(daemon_mode="force_daemon", vae_name=file.name)))


# Cancelled, lost


def large_decode(loader: Prompt, side: int) -> Prompt:
    """Return a workflow that is busy for some seconds with decoding one image."""
    size = {"width": side, "height": side, "batch_size": 1}
    noise = {"color": 9_000_000, **size}
    return {
        "1": loader,
        "2": {"class_type": "EmptyImage", "inputs": noise},
        "3": {"class_type": "VAEEncode", "inputs": {"pixels": ["2", 0], "vae": ["1", 2]}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["1", 2]}},
        "7": {"class_type": "LunaTestDigest", "inputs": {"value": ["6", 0]}},
    }


def run_aside(server: ComfyServer, prompt: Prompt) -> tuple[threading.Thread, list[Any]]:
    """Run a prompt in a thread; what it gives, or raises, comes into the list."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(server.run(prompt))
        except RunFailedError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def test_cancel_stops_a_decode_that_runs_in_the_daemon(studio, first):
    first.run(large_decode(FORCED, 64))  # loaded
    studio.wait_for("idle")
    before = {worker["pid"] for worker in studio.workers()}
    thread, found = run_aside(first, large_decode(FORCED, 2048))
    studio.wait_for("busy")
    began = time.monotonic()
    first.post("/interrupt")
    thread.join(60)
    assert isinstance(found[0], RunFailedError)
    assert "execution_interrupted" in str(found[0].details)
    studio.wait_for("idle")
    assert pixels(first.image(drawing(FORCED, "next"))) == pixels(
        first.image(drawing(STOCK, "next"))
    )
    assert {worker["pid"] for worker in studio.workers()} == before, f"after {began}"


def test_killed_while_it_decodes_auto_goes_on_here(studio, first):
    wanted = first.run(large_decode(STOCK, 640))["7"]
    first.run(large_decode(AUTO, 64))
    thread, found = run_aside(first, large_decode(AUTO, 640))
    studio.wait_for("busy")
    studio.kill_daemon()
    thread.join(120)
    assert found == [{"7": wanted}]
    assert "is loaded into this process as well" in first.log.read_text("utf-8", "replace")


def test_killed_while_it_decodes_force_daemon_says_so_and_the_next_run_is_fine(studio, first):
    wanted = first.run(large_decode(STOCK, 640))["7"]
    first.run(large_decode(FORCED, 64))
    thread, found = run_aside(first, large_decode(FORCED, 640))
    studio.wait_for("busy")
    studio.kill_daemon()
    thread.join(120)
    assert isinstance(found[0], RunFailedError)
    (error,) = found[0].details
    assert error["node_type"] in ("VAEEncode", "VAEDecode")
    assert "The daemon, which holds the VAE" in error["exception_message"]
    assert first.run(large_decode(FORCED, 640))["7"] == wanted
