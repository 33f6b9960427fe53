"""A real daemon process for each test module or test, and tiny models for it to hold."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from luna_collection.luna_daemon.client import DaemonClient
from luna_collection.luna_daemon.config import DaemonConfig
from luna_collection.luna_daemon.config_sources import resolve
from luna_collection.luna_daemon.demo.tiny_models import make_sd15_like, make_sdxl_like
from luna_collection.luna_daemon.errors import ConnectionLostError, DaemonUnreachableError

LAUNCHER = Path(__file__).resolve().parents[2] / "luna_daemon" / "daemon_server.py"
START_TIMEOUT_S = 60

SDXL = {"clip_l": "sdxl/text_encoder", "clip_g": "sdxl/text_encoder_2", "vae": "sdxl/vae"}
SD15 = {"clip_l": "sd15/text_encoder", "vae": "sdxl/vae"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.end_to_end)


class Daemon:
    """A daemon process and how to reach it."""

    def __init__(self, folder: Path, models: Path, **settings: object) -> None:
        self.folder = folder
        settings.setdefault("port", 0)
        settings.setdefault("engine", "hf")  # also where there is a ComfyUI
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        self.log = folder.parent / f"{folder.name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, str(LAUNCHER), f"--runtime-dir={folder}"),
                    *(f"--model-roots={models}", "--device=cpu", *flags),
                ],
                stdout=log,
                stderr=log,
            )
        address = {"runtime_dir": folder, "port": settings["port"]}
        if settings.get("service_type") == "vae":
            address["service_type"] = "vae"
        self.config: DaemonConfig = resolve(address, env={}).config
        self._clients: list[DaemonClient] = []
        self._wait_until_ready()

    def client(self, **options: Any) -> DaemonClient:
        """Return a client that is closed with the daemon."""
        client = DaemonClient(config=options.pop("config", self.config), **options)
        self._clients.append(client)
        return client

    def status(self) -> dict[str, Any]:
        with DaemonClient(config=self.config) as client:
            return client.status()

    def models(self) -> list[dict[str, Any]]:
        workers = [w for d in self.status()["devices"].values() for w in d["workers"]]
        return [model for worker in workers for model in worker["models"]]

    def workers(self) -> list[dict[str, Any]]:
        return [w for d in self.status()["devices"].values() for w in d["workers"]]

    def worker_pid(self) -> int:
        return next(w["pid"] for w in self.workers() if w["pid"])

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()

    def stop(self) -> int:
        """End it as `luna-daemon stop` does; return its exit code."""
        self.close_clients()
        # In split mode the other daemon may have been stopped together with this one.
        with contextlib.suppress(ConnectionLostError), DaemonClient(config=self.config) as client:
            client.stop_daemon()
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with DaemonClient(config=self.config) as client:
                    client.ping()
                return
            except DaemonUnreachableError:
                ended = self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    self.process.kill()
                    raise AssertionError(
                        f"the daemon did not start:\n{self.log.read_text()}"
                    ) from None
                time.sleep(0.02)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_sdxl_like(folder / "sdxl")
    make_sd15_like(folder / "sd15")
    return folder


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Daemon]:
    """One daemon for the tests of a module that leave it as they found it."""
    running = Daemon(tmp_path_factory.mktemp("d"), models)
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def start_daemon(
    tmp_path_factory: pytest.TempPathFactory, models: Path
) -> Iterator[Callable[..., Daemon]]:
    """Start daemons that the test may do anything to."""
    started: list[Daemon] = []

    def start(
        folder: Path | None = None, model_folder: Path | None = None, **settings: object
    ) -> Daemon:
        started.append(
            Daemon(folder or tmp_path_factory.mktemp("d"), model_folder or models, **settings)
        )
        return started[-1]

    yield start
    for running in started:
        running.close_clients()
        if running.process.poll() is None:
            running.stop()


@pytest.fixture(autouse=True)
def no_shared_memory_is_left() -> Iterator[None]:
    before = shared_memory_names()
    yield
    wait_until(lambda: shared_memory_names() <= before)


def shared_memory_names() -> set[str]:
    folder = Path("/dev/shm")
    return {p.name for p in folder.glob("luna-*")} if folder.is_dir() else set()


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.02)


def latents(batch: int = 1, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn((batch, 4, side, side), generator=torch.Generator().manual_seed(seed))


class Background:
    """Runs a call in a thread and keeps what it gave or raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def result(self, seconds: float = 90.0) -> Any:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the call is still waiting"
        if self.error is not None:
            raise self.error
        return self.value

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self.value = call()
        except BaseException as error:  # noqa: BLE001  (raised again by result())
            self.error = error


def kill_9(pid: int) -> None:
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
