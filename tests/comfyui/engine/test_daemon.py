"""The whole way: a daemon process whose worker runs ComfyUI, and clients over its socket."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from luna_collection.luna_daemon.client import DaemonClient
from luna_collection.luna_daemon.config_sources import resolve
from luna_collection.luna_daemon.errors import (
    BadRequestError,
    DaemonUnreachableError,
    IncompatibleError,
    NotFoundError,
)
from luna_collection.luna_daemon.numerics import numerics_of
from luna_collection.luna_daemon.protocol.messages import ModelPart
from luna_collection.luna_daemon.protocol.work import CallModel, FetchWeights, Needed, Recipe
from luna_collection.luna_daemon.transport.trees import dump_tree, load_tree
from luna_command.comfyui import ComfyUI

from .conftest import latent, same
from .engine_client import SentRecipe
from .random_weights import save, taesd, text_lora

LAUNCHER = Path(__file__).resolve().parents[3] / "luna_daemon" / "daemon_server.py"
START_TIMEOUT_S = 60
TEXT = "a cat (with a hat:1.2)"


class Daemon:
    """A daemon of a test's own."""

    def __init__(self, folder: Path, comfyui: ComfyUI, roots: Path) -> None:
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, str(LAUNCHER), f"--runtime-dir={folder}", "--port=0"),
                    *(f"--comfyui-path={comfyui.root}", f"--comfyui-python={comfyui.python}"),
                    *(f"--model-roots={roots}", "--device=cpu", "--worker-threads=1"),
                ],
                stdout=log,
                stderr=log,
            )
        self.config = resolve({"runtime_dir": folder, "port": 0}, env={}).config
        self._clients: list[DaemonClient] = []
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(DaemonUnreachableError):
                self.client().ping()
                return
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def client(self, **options: Any) -> DaemonClient:
        """Return a client that is closed with the daemon."""
        self._clients.append(DaemonClient(config=self.config, **options))
        return self._clients[-1]

    def workers(self) -> list[dict[str, Any]]:
        """Return what the daemon says of its workers."""
        devices = self.client().status()["devices"].values()
        return [worker for device in devices for worker in device["workers"]]

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        with DaemonClient(config=self.config) as client:
            client.stop_daemon()
        assert self.process.wait(60) == 0, self.log.read_text()


@pytest.fixture(scope="module")
def daemon(comfyui: ComfyUI, files, tmp_path_factory) -> Iterator[Daemon]:
    running = Daemon(tmp_path_factory.mktemp("d"), comfyui, files("clip_l").parent)
    yield running
    running.stop()


@pytest.fixture
def numerics() -> dict[str, str]:
    from comfy.cli_args import args
    from luna_collection.luna_daemon.engines.comfy.boot import comfyui_version

    root = Path(sys.modules["comfy"].__path__[0]).parent
    return numerics_of(args, comfyui=comfyui_version(root), torch=str(torch.__version__))


@pytest.fixture
def clip_part(files) -> ModelPart:
    options = {"clip_type": "stable_diffusion", "dtype": "float16"}
    return ModelPart(kind="clip", files=(str(files("clip_l")),), options=options)


@pytest.fixture
def vae_part(files) -> ModelPart:
    return ModelPart(kind="vae", files=(str(files("taesd")),))


def call(client, workflow, kind, role, method, *positional, recipe=None, **named):
    """Call a model; return what it gave, or `Needed`, and whether it came from the cache."""
    raw, tensors = dump_tree((positional, named))
    blobs = () if recipe is None else tuple(recipe.tensors.items())
    sent = recipe and Recipe(
        digest=recipe.digest,
        stages=recipe.stages,
        blobs={digest: len(tensors) + number for number, (digest, _) in enumerate(blobs)},
    )
    work = CallModel(kind=kind, role=role, method=method, arguments=raw, recipe=sent)
    done, found = client.call(workflow, work, [*tensors, *(blob for _, blob in blobs)])
    if isinstance(done.result, Needed):
        return done.result
    return load_tree(done.result.value, found)


def test_objects_of_comfyui_are_served(
    daemon, numerics, clip_part, vae_part, files, stock_clip, stock_vae
):
    import comfy.sd

    client = daemon.client()
    keys = client.claim("w", "SD1.5", {"te": clip_part, "v": vae_part}, numerics)
    assert keys.keys() == {"te", "v"}
    clip, vae = stock_clip(files("clip_l")), stock_vae(files("taesd"))
    patched = comfy.sd.load_lora_for_models(None, clip, text_lora(1), 0, 1.0)[1]
    recipe = SentRecipe(patched.patcher.patches)
    tokens = clip.tokenize(TEXT)
    with torch.inference_mode():
        plain = clip.encode_from_tokens(tokens, return_pooled=True)
        with_lora = patched.encode_from_tokens(tokens, return_pooled=True)
        image = vae.decode(latent(32))
        again = vae.encode(image)
    encode = ("clip", "te", "encode_token_weights", tokens)
    assert same(call(client, "w", *encode), plain)
    assert same(call(client, "w", *encode, recipe=recipe), with_lora)
    assert same(call(client, "w", *encode), plain)
    got = call(client, "w", "vae", "v", "decode", latent(32))
    assert same(got, image), "through shared memory, with its layout"
    assert same(call(client, "w", "vae", "v", "encode", got), again)
    name = "clip_l.transformer.text_model.final_layer_norm.weight"
    weights = client.call("w", FetchWeights(kind="clip", role="te", names=(name,)))[1]
    assert torch.equal(weights[0], clip.cond_stage_model.state_dict()[name])


def test_two_clients_and_a_script_share_weights(daemon, numerics, clip_part, files):
    clients = [daemon.client() for _ in range(2)]
    keys = [
        c.claim(f"s{n}", "SD1.5", {f"role{n}": clip_part}, numerics) for n, c in enumerate(clients)
    ]
    script = daemon.client().get_model_proxies("script", "SD1.5", {"clip_l": files("clip_l")})
    assert keys[0]["role0"] == keys[1]["role1"] == script.keys["clip_l"]
    held = [m for w in daemon.workers() for m in w["models"] if m["key"] == keys[0]["role0"]]
    assert len(held) == 1
    assert {"s0", "s1", "script"} <= set(held[0]["workflows"])


def test_the_worker_is_comfyuis_python_and_says_its_versions(daemon, numerics, vae_part, comfyui):
    daemon.client().claim("v", "Other", {"v": vae_part}, numerics)
    worker = daemon.workers()[0]
    assert worker["comfyui"] == numerics["comfyui"]
    assert worker["torch"] == numerics["torch"]
    assert Path(psutil.Process(worker["pid"]).cmdline()[0]) == comfyui.python.absolute()


def test_another_setting_is_refused_as_long_as_somebody_holds_models(daemon, numerics, vae_part):
    holder, other = daemon.client(), daemon.client()
    holder.claim("mine", "Other", {"v": vae_part}, numerics)
    with pytest.raises(IncompatibleError, match="fp32_vae on instead of off"):
        other.claim("yours", "Other", {"v": vae_part}, {**numerics, "fp32_vae": "on"})


def test_another_version_is_refused_and_the_next_client_is_served(
    comfyui, files, tmp_path, numerics, vae_part
):
    daemon = Daemon(tmp_path, comfyui, files("taesd").parent)
    try:
        with pytest.raises(IncompatibleError, match=r"torch 1\.0 instead of"):
            daemon.client().claim("a", "Other", {"v": vae_part}, {**numerics, "torch": "1.0"})
        client = daemon.client()
        client.claim("b", "Other", {"v": vae_part}, numerics)
        first = daemon.workers()[0]
        client.release("b")
        client.close()
        last = daemon.client()
        last.claim("c", "Other", {"v": vae_part}, {**numerics, "fp32_vae": "on"})
        now = daemon.workers()[0]
        assert now["pid"] != first["pid"]
        assert now["deaths"] == 0, "a worker that starts with other settings has not died"
        assert call(last, "c", "vae", "v", "decode", latent()).shape == (1, 64, 64, 3)
    finally:
        daemon.stop()


def test_the_callers_interrupt_stops_a_running_decode(daemon, numerics, files):
    class InterruptError(Exception):
        pass

    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise InterruptError

    client = daemon.client(interrupt=check)
    part = ModelPart(kind="vae", files=(str(files("vae")),))
    client.claim("long", "Other", {"v": part}, numerics)
    timer = threading.Timer(1.0, stopped.set)
    timer.start()
    with pytest.raises(InterruptError):
        call(client, "long", "vae", "v", "decode", latent(160))
    # The worker is free for others, long before the decode would have been finished.
    other = daemon.client()
    other.claim("short", "Other", {"v": part}, numerics)
    assert call(other, "short", "vae", "v", "decode", latent(2)).shape == (1, 16, 16, 3)
    worker = daemon.workers()[0]
    assert (worker["state"], worker["deaths"]) == ("idle", 0)


def test_what_cannot_be_called_is_refused(daemon, numerics, vae_part):
    client = daemon.client()
    client.claim("w", "Other", {"v": vae_part}, numerics)
    with pytest.raises(BadRequestError, match="has no method 'get_sd'"):
        call(client, "w", "vae", "v", "get_sd")
    with pytest.raises(NotFoundError, match="has registered no model as 'other'"):
        call(client, "w", "vae", "other", "decode", latent())
    with pytest.raises(BadRequestError, match="'v' is a vae, not a clip"):
        call(client, "w", "clip", "v", "encode", [])


def test_files_that_can_run_code_and_files_elsewhere_are_refused(daemon, numerics, files, tmp_path):
    client = daemon.client()
    old = files("taesd").with_name("old.ckpt")
    torch.save({}, old)
    with pytest.raises(BadRequestError, match=r"'old\.ckpt' for 'v' is not a \.safetensors file"):
        client.claim("w", "Other", {"v": ModelPart(kind="vae", files=(str(old),))}, numerics)
    elsewhere = save(taesd(), tmp_path / "x.safetensors")
    with pytest.raises(NotFoundError, match="below the model folders"):
        client.claim("w", "Other", {"v": ModelPart(kind="vae", files=(str(elsewhere),))}, numerics)


def test_a_file_that_is_replaced_is_another_model(daemon, numerics, files):
    client = daemon.client()
    file = save(taesd(seed=21), files("taesd").with_name("swapped.safetensors"))
    part = ModelPart(kind="vae", files=(str(file),))
    before = client.claim("w", "Other", {"v": part}, numerics)["v"]
    first = call(client, "w", "vae", "v", "decode", latent())
    os.replace(save(taesd(seed=22), file.with_name("new.safetensors")), file)
    assert client.claim("w", "Other", {"v": part}, numerics)["v"] != before
    assert not same(call(client, "w", "vae", "v", "decode", latent()), first)
