"""This ComfyUI's way to the daemon: one client, one launcher, one circuit breaker for the whole process.

Nothing is started when ComfyUI starts or a page loads: only a node run, or the button of the page.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import time

import comfy.cli_args
import comfy.model_management
import folder_paths

from ..luna_daemon.client import DaemonClient
from ..luna_daemon.config_sources import resolve
from ..luna_daemon.errors import ConnectionLostError
from ..luna_daemon.launch import Launcher
from ..utils.circuit_breaker import CircuitBreaker
from .model_folders import model_roots

breaker = CircuitBreaker()


def interrupt() -> None:
    """Raise what ComfyUI's Cancel raises, if it was asked for."""
    comfy.model_management.throw_exception_if_processing_interrupted()


@functools.cache
def client() -> DaemonClient:
    """Return the connection that all nodes of this process share."""
    return DaemonClient(interrupt=interrupt)


@functools.cache
def launcher() -> Launcher:
    """Return the launcher for a daemon with this ComfyUI's interpreter, folder and models."""
    settings = resolve()
    args = comfy.cli_args.args
    options: list[str] = []
    if settings.origins["comfyui_path"] == "default":
        options += ["--comfyui-path", os.path.dirname(os.path.abspath(folder_paths.__file__))]
    if settings.origins["comfyui_python"] == "default":  # and not an environment left in its folder
        options += ["--comfyui-python", sys.executable]
    if settings.origins["model_roots"] == "default":
        options += ["--model-roots", os.pathsep.join(str(root) for root in model_roots())]
    if args.cpu and settings.origins["device"] == "default":
        options += ["--device", "cpu"]
    return Launcher(settings.config, options)


def prepare() -> None:
    """Begin to start the daemon, if it is not there, without waiting for it."""
    if breaker.allows(time.monotonic()):
        launcher().begin()


def require() -> DaemonClient:
    """Return the client when the daemon answers, starting it first where that is needed.

    Raises:
        DaemonUnreachableError: It does not answer and cannot be started.
    """
    started = launcher()
    try:
        started.begin()
        started.wait(interrupt=interrupt)
    except ConnectionLostError:
        breaker.failed(time.monotonic())
        raise
    breaker.succeeded()
    return client()


def server_name() -> str:
    """Return what tells this ComfyUI from others on the machine: its port and base folder."""
    base = hashlib.sha256(os.path.abspath(folder_paths.base_path).encode()).hexdigest()[:6]
    return f"{comfy.cli_args.args.port}-{base}"
