"""Two ComfyUI servers with router workflows, one daemon: it starts by itself, is shared, dies, comes back."""

from __future__ import annotations

import shutil
import sys
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .comfy_server import BOOT_TIMEOUT_S, ComfyServer, RunFailedError
from .studio import Prompt, Studio
from .workflows import STOCK, drawing, pixels, router, showing, with_lora

pytestmark = pytest.mark.timeout(2 * BOOT_TIMEOUT_S + 300)


@pytest.fixture
def first(studio: Studio) -> ComfyServer:
    return studio.servers[0]


def auto(**inputs: object) -> Prompt:
    return router(daemon_mode="auto", **inputs)


def forced(**inputs: object) -> Prompt:
    return router(daemon_mode="force_daemon", **inputs)


def through(tunnel: str, stock: Prompt, **inputs: object) -> Prompt:
    """Put a tunnel behind the loader of a workflow."""
    prompt = drawing(stock)
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == "1":
                node["inputs"][name] = ["10", value[1]]
    prompt["10"] = {"class_type": tunnel, "inputs": {"model": ["1", 0], **inputs}}
    return prompt


def wait_until_gone(studio: Studio) -> None:
    deadline = time.monotonic() + 60
    while studio.daemon is not None:
        assert time.monotonic() < deadline, "the daemon did not end"
        time.sleep(0.1)


def test_no_daemon_runs_before_a_node_asks_for_it(studio, first):
    assert studio.daemon is None
    status = first.get("/luna/daemon/status")
    assert status["running"] is False
    prompt = {"1": {"class_type": "LunaDaemonStatus", "inputs": {}}}
    prompt["9"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
    assert first.texts(prompt, "9")[0].startswith("The daemon does not run.")
    assert studio.daemon is None


def test_two_servers_draw_through_one_daemon_what_comfyui_draws_alone(studio):
    texts = ["a lighthouse", "a red fox", "an old harbour"]
    kinds = [lambda prompt: prompt, with_lora]
    wanted = {
        (text, number): pixels(studio.servers[0].image(edit(drawing(STOCK, text))))
        for text in texts
        for number, edit in enumerate(kinds)
    }

    def draw(server: ComfyServer, order: int) -> dict[tuple[str, int], bytes]:
        jobs = list(wanted)[::order]
        return {
            (text, number): pixels(server.image(kinds[number](drawing(auto(), text))))
            for text, number in jobs
        }

    with ThreadPoolExecutor() as pool:
        drawn = list(pool.map(draw, studio.servers, (1, -1)))
    assert drawn == [wanted, wanted]


def test_the_weights_are_in_the_daemon_once(studio, first):
    status = first.get("/luna/daemon/status")["status"]
    models = [
        model
        for device in status["devices"].values()
        for worker in device["workers"]
        for model in worker["models"]
    ]
    assert len(models) == len({model["key"] for model in models})
    shared = [model for model in models if len(model["workflows"]) >= 2]
    assert len(shared) >= 2  # text encoder and VAE, of both servers
    servers = {entry["workflow_id"].split()[1] for entry in status["workflows"]}
    assert len(servers) == 2


def test_a_graph_keeps_its_name_and_another_one_evicts_nothing(studio, first):
    def run_and_name(prompt: Prompt) -> str:
        known = set(_log(studio).splitlines())
        first.image(prompt)
        new = [line for line in _log(studio).splitlines() if line not in known]
        (name,) = {line.split("'")[1] for line in new if "luna.workflows: workflow" in line}
        return name

    one = drawing(forced(), "one")
    other = with_lora(drawing(forced(vae_name="sdxl_vae.safetensors"), "two"))
    name = run_and_name(one)
    loaded = _log(studio).count("loaded clip")
    assert run_and_name(other) != name
    assert run_and_name(drawing(forced(), "three")) == name
    assert _log(studio).count("loaded clip") == loaded


def _log(studio: Studio) -> str:
    return (studio.run / "daemon-0.log").read_text("utf-8", "replace")


@pytest.mark.parametrize(
    "prompt",
    [
        through("LunaCheckpointTunnel", STOCK, clip=["1", 1], vae=["1", 2]),
        through(
            "LunaUNetTunnel",
            {
                "class_type": "UNETLoader",
                "inputs": {"unet_name": "sd15_unet.safetensors", "weight_dtype": "default"},
            },
            model_type="auto",
        ),
    ],
    ids=["checkpoint", "unet"],
)
def test_a_tunnel_changes_where_things_are_and_nothing_else(first, prompt):
    prompt["9"] = {"class_type": "PreviewAny", "inputs": {"source": ["10", 3]}}
    outputs = first.run(prompt)
    (status,) = outputs["9"]["text"]
    assert "CLIP: daemon" in status
    assert "VAE: daemon" in status
    assert _picture(first, outputs) == pixels(first.image(drawing(STOCK)))


def test_a_tunnel_takes_loras_along(first):
    prompt = with_lora(drawing(STOCK, "a fox"))
    wanted = pixels(first.image(prompt))
    tunnel = {"model": ["8", 0], "clip": ["8", 1], "vae": ["1", 2]}
    prompt["10"] = {"class_type": "LunaCheckpointTunnel", "inputs": tunnel}
    for node in ("2", "3"):
        prompt[node]["inputs"]["clip"] = ["10", 1]
    prompt["9"] = {"class_type": "PreviewAny", "inputs": {"source": ["10", 3]}}
    outputs = first.run(prompt)
    assert "CLIP: daemon" in outputs["9"]["text"][0]
    assert _picture(first, outputs) == wanted


def test_the_daemon_loaders_give_what_the_stock_ones_give(first):
    prompt = drawing(STOCK)
    loaders = {
        "10": ("LunaDaemonCLIPLoader", {"clip_name1": "clip_l.safetensors"}),
        "11": ("LunaDaemonVAELoader", {"vae_name": "sdxl_vae.safetensors"}),
    }
    for number, (name, inputs) in loaders.items():
        prompt[number] = {"class_type": name, "inputs": inputs}
    for node in ("2", "3"):
        prompt[node]["inputs"]["clip"] = ["10", 0]
    prompt["6"]["inputs"]["vae"] = ["11", 0]
    assert pixels(first.image(prompt)) == pixels(first.image(drawing(STOCK)))


def test_the_status_node_is_asked_anew_in_every_run(first):
    prompt = {
        "1": {"class_type": "LunaDaemonStatus", "inputs": {}},
        "9": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    before = first.texts(prompt, "9")
    first.image(drawing(forced(), "something new"))
    after = first.texts(prompt, "9")
    assert before[0].startswith("Luna daemon")
    assert before != after


def test_a_file_outside_the_daemons_folders_is_told_with_the_way_out(studio, first):
    first.image(drawing(forced(), "before"))
    outside = studio.run.parent / "elsewhere" / "vae.safetensors"
    outside.parent.mkdir()
    shutil.copy(first.base / "models/vae/sdxl_vae.safetensors", outside)
    (first.base / "models/vae/linked.safetensors").symlink_to(outside)
    with pytest.raises(RunFailedError) as failed:
        first.image(drawing(auto(vae_name="linked.safetensors"), "outside"))
    (error,) = failed.value.details
    message = error["exception_message"]
    assert "may not read 'linked.safetensors'" in message
    assert str(outside.parent) in message.partition("--model-roots")[2]


def _picture(server: ComfyServer, outputs: dict[str, Any]) -> bytes:
    (image,) = outputs["7"]["images"]
    return pixels((server.base / "output" / image["filename"]).read_bytes())


# It dies


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be stopped there")
def test_a_daemon_that_hangs_is_passed_over_and_taken_up_when_it_goes_on(studio, first):
    def status_of(text: str) -> str:
        (status,) = first.run(showing(encoding(auto(vae_name="None"), text), "status"))["9"]["text"]
        return str(status)

    def encoding(loader: Prompt, text: str) -> Prompt:
        encode = {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["1", 1]}}
        shown = {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}}
        return {"1": loader, "2": encode, "3": shown}

    daemon = studio.daemon
    assert daemon is not None
    daemon.suspend()
    try:
        status = status_of("hangs")
    finally:
        daemon.resume()
    assert status.startswith("[SD1.5] local (fallback)")
    assert "does not answer" in status
    deadline = time.monotonic() + 60
    while not status_of("again").startswith("[SD1.5] daemon"):
        assert time.monotonic() < deadline, "the daemon is not used again"
        time.sleep(1)


def test_killed_in_the_middle_of_a_graph_auto_goes_on_here(studio, first):
    wanted = pixels(first.image(drawing(STOCK, "after")))
    first.image(drawing(auto(), "before"))
    studio.kill_daemon()
    assert pixels(first.image(drawing(auto(), "after"))) == wanted
    assert "is loaded into this process" in first.log.read_text("utf-8", "replace")
    # The next run of the same graph starts it again and uses it.
    status = first.run(showing(drawing(auto(), "next"), "status"))["9"]["text"][0]
    assert status.startswith("[SD1.5] daemon")
    assert studio.daemon is not None
    assert first.get("/luna/daemon/status")["status"]["requests"]["finished"] > 0


def test_the_next_node_that_needs_it_starts_it_again(studio):
    second = studio.servers[1]
    if studio.daemon is not None:
        studio.kill_daemon()
    assert pixels(second.image(drawing(forced(), "again"))) == pixels(
        second.image(drawing(STOCK, "again"))
    )
    assert studio.daemon is not None


def test_start_stop_and_restart_are_for_our_own_page(studio, first):
    with pytest.raises(urllib.error.HTTPError) as refused:
        first.post("/luna/daemon/stop", headers={"Origin": "http://evil.example"})
    with refused.value as error:
        assert error.code == 403
    assert first.post("/luna/daemon/start")["running"] is True
    before = studio.daemon
    own = {"Origin": first.url}
    assert first.post("/luna/daemon/restart", headers=own) == {"running": True, "started": True}
    assert studio.daemon != before
    assert first.post("/luna/daemon/start", headers=own)["started"] is False
    assert first.post("/luna/daemon/stop", headers=own) == {"running": False, "stopped": True}
    wait_until_gone(studio)
    assert first.post("/luna/daemon/stop", headers=own) == {"running": False, "stopped": False}


def test_the_page_is_told_what_each_type_needs(first):
    types = first.get("/luna/model_types")
    (slot,) = types["SD1.5"]["slots"]
    assert slot == {"role": "clip_l", "name": "CLIP-L", "files": ["clip_l.safetensors"]}
    assert [slot["role"] for slot in types["Flux+Vision"]["slots"]] == [
        "clip_l",
        "t5xxl",
        "clip_vision",
    ]


def test_a_daemon_that_cannot_start_is_an_error_or_a_fallback_as_chosen(studio):
    server = studio.servers[1]
    if studio.daemon is not None:
        server.post("/luna/daemon/stop")
        wait_until_gone(studio)
    lock = studio.run / "daemon-0.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()  # nobody can lock a folder
    try:
        with pytest.raises(RunFailedError) as failed:
            server.run(drawing(forced(vae_name="sdxl_vae.safetensors"), "unreachable"))
        assert "The Luna daemon could not be started." in str(failed.value)
        prompt = showing(drawing(auto(vae_name="sdxl_vae.safetensors"), "unreachable"), "status")
        outputs = server.run(prompt)
        assert outputs["9"]["text"][0].startswith("[SD1.5] local (fallback)")
    finally:
        lock.rmdir()
    assert _picture(server, outputs) == pixels(
        server.image(drawing(router(vae_name="sdxl_vae.safetensors"), "unreachable"))
    )
