"""Two ComfyUI servers with router workflows, one daemon: it starts by itself, is shared, dies, comes back."""

from __future__ import annotations

import shutil
import sys
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from luna_collection.utils.prompt_graph import workflow_id

from .comfy_server import BOOT_TIMEOUT_S, ComfyServer, RunFailedError
from .studio import LINKED, Prompt, Studio
from .workflows import SD15, STOCK, drawing, pixels, router, showing, with_lora

pytestmark = pytest.mark.timeout(2 * BOOT_TIMEOUT_S + 300)

LOG = "daemon-0.log"
ASKING = {
    "1": {"class_type": "LunaDaemonStatus", "inputs": {}},
    "9": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}


@pytest.fixture(scope="module", autouse=True)
def nothing_runs_yet(studio: Studio) -> None:
    """End what other modules have started; the tests here follow a daemon from its first start."""
    if studio.daemon is not None:
        studio.servers[0].post("/luna/daemon/stop")
        wait_until_gone(studio)
    (studio.run / LOG).unlink(missing_ok=True)


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
    assert first.texts(ASKING, "9")[0].startswith("The daemon does not run.")
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
    # Who has claims at this moment also depends on how much RAM is free: a ComfyUI that is short of it
    # lets go of what its loaders gave as soon as a graph has run.
    lines = _log(studio).splitlines()
    claims = [line.split("'")[1] for line in lines if "luna.workflows: workflow" in line]
    assert len({workflow_id.split()[1] for workflow_id in claims}) == 2
    assert sum("loaded clip" in line for line in lines) == 1
    assert sum("loaded vae" in line for line in lines) == 1


def test_a_checkpoint_that_is_pickled_is_opened_here_and_its_status_says_so(studio, first):
    import torch
    from safetensors.torch import load_file

    file = first.base / "models/checkpoints" / SD15
    torch.save({"state_dict": load_file(file)}, file.with_name("old style.ckpt"))
    (status,) = first.texts(
        showing(
            drawing(
                auto(
                    model_name="old style.ckpt",
                    model_type="SD1.5",
                    model_type__clip_l="from checkpoint",
                ),
                "old",
            ),
            "status",
        ),
        "9",
    )
    assert status.startswith("[SD1.5] local | MODEL: old style.ckpt")
    assert (
        "\nLoaded in this process: 'old style.ckpt' is neither a safetensors nor a GGUF file"
        in status
    )


def test_a_graph_keeps_its_name_and_another_one_evicts_nothing(studio, first):
    def run(prompt: Prompt) -> set[str]:
        """Return the graphs that claim models meanwhile; earlier ones may just give some of theirs up."""
        known = set(_log(studio).splitlines())
        first.image(prompt)
        new = [line for line in _log(studio).splitlines() if line not in known]
        return {line.split("'")[1].split()[2] for line in new if "luna.workflows: workflow" in line}

    def name(prompt: Prompt) -> str:
        return workflow_id("a server", prompt).split()[-1]

    one = drawing(forced(), "one")
    other = with_lora(drawing(forced(vae_name="sdxl_vae.safetensors"), "two"))
    assert name(one) != name(other)
    assert name(one) in run(one)
    loaded = _log(studio).count("loaded clip")
    assert name(other) in run(other)
    assert name(one) in run(drawing(forced(), "three"))
    assert _log(studio).count("loaded clip") == loaded


def _log(studio: Studio) -> str:
    return (studio.run / LOG).read_text("utf-8", "replace")


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


def test_a_folder_that_is_a_link_can_be_read_by_the_daemon(first):
    (status,) = first.texts(showing(drawing(auto(model_name=LINKED), "linked"), "status"), "9")
    assert status.splitlines()[0].startswith("[SD1.5] daemon |")


def test_the_status_node_is_asked_anew_in_every_run(first):
    before = first.texts(ASKING, "9")
    first.image(drawing(forced(), "something new"))
    after = first.texts(ASKING, "9")
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
    def graph(text: str) -> Prompt:
        return showing(drawing(auto(), text), "status")

    wanted = pixels(first.image(drawing(STOCK, "after")))
    first.image(graph("before"))
    studio.kill_daemon()
    assert pixels(first.image(graph("after"))) == wanted
    said = "'v1-5-pruned-emaonly-fp16.safetensors' is loaded into this process as well: The daemon is gone."
    assert first.log.read_text("utf-8", "replace").count(said) == 2  # text encoder and VAE
    shown = first.texts(ASKING, "9")[0]
    assert shown.startswith("The daemon does not run.")
    assert shown.count(said) == 2
    # The next run of the same graph starts it again and uses it, and says what has been.
    (status,) = first.texts(graph("next"), "9")
    assert status.startswith("[SD1.5] daemon |")
    assert status.count(said) == 2
    assert said not in first.texts(ASKING, "9")[0]
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
    rebound = {"Host": "evil.example:8188", "Origin": "http://evil.example:8188"}
    for foreign in ({"Origin": "http://evil.example"}, rebound):
        with pytest.raises(urllib.error.HTTPError) as refused:
            first.post("/luna/daemon/stop", headers=foreign)
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
