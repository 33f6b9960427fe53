"""The command `luna-daemon`: starts the daemon, or talks to one that runs.

Every command is imported when it is called: the daemon's own process never imports torch.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..utils.errors import LunaError
from ..utils.log import get_logger
from .config import DaemonConfig
from .config_sources import Settings, add_flags, print_config, resolve
from .version import PACKAGE_VERSION

log = get_logger("daemon")
_DESCRIPTION = """Start the Luna daemon: it holds text encoders and VAEs once for all of this
machine's ComfyUI processes and scripts. Other commands: luna-daemon status | top | logs | stop | demo,
each with its own --help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the process's exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every console can show every file's name
            stream.reconfigure(errors="backslashreplace")
    command = _COMMANDS.get(args[0]) if args else None
    try:
        return command(args[1:]) if command else _start(args)
    except LunaError as error:
        sys.stderr.write(f"luna-daemon: {error}\n")
        return int(getattr(error, "EXIT_CODE", 2))
    except KeyboardInterrupt:
        return 130


def _start(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="luna-daemon", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=PACKAGE_VERSION)
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="Print all settings with their origins, and end.",
    )
    add_flags(parser)
    flags = vars(parser.parse_args(args))
    only_print = flags.pop("print_config")
    settings = resolve(flags, file=flags.pop("config"))
    if only_print:
        sys.stdout.write(print_config(settings) + "\n")
        return 0
    return run_daemon(settings)


def run_daemon(settings: Settings) -> int:
    """Serve until the daemon is told to stop."""
    from .comfyui_folder import find_comfyui
    from .instance_lock import InstanceLock
    from .monitoring.log_output import set_up_logging
    from .transport.endpoints import check_socket_path, make_runtime_dir

    config = settings.config
    comfyui = find_comfyui(config.comfyui_path)
    make_runtime_dir(config.folder)
    if config.endpoint.socket_path is not None:
        check_socket_path(config.endpoint.socket_path)
    lock = InstanceLock(config.folder, config.listen_port)
    lock.acquire()
    try:
        log_path = config.folder / f"daemon-{config.listen_port}.log"
        set_up_logging(config.log_level, log_path, config.log_format)
        if sys.platform == "win32":  # the default loop there has no add_reader
            asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
        asyncio.run(_serve(config, comfyui, lock, log_path))
    finally:
        lock.release()
    return 0


async def _serve(config: DaemonConfig, comfyui: Path | None, lock: Any, log_path: Path) -> None:
    from .instance_lock import InstanceRecord, own_start_time
    from .monitoring.http_port import HttpPort
    from .server import Server
    from .supervisor import Supervisor

    daemon = Supervisor(config, comfyui)
    monitoring = HttpPort(daemon, config.host, config.http_port)
    if config.http_port:
        await monitoring.open()
    server = Server(daemon, config.endpoint)
    server.open()
    record = InstanceRecord(
        os.getpid(), own_start_time(), daemon.boot_id, config.host, server.port, str(log_path)
    )
    lock.publish(record)
    _stop_on_signals(daemon.stop_requested)
    daemon.start()
    where = ", ".join(f"{pool} on {device}" for pool, device in daemon.placement.devices.items())
    log.info(
        "ready on %s (port %d): %s; engine %s", config.endpoint, server.port, where, daemon.engine
    )
    if config.http_port:
        log.info("monitoring over HTTP on port %d", monitoring.port)
    try:
        await daemon.stop_requested.wait()
        log.info("stopping")
    finally:
        daemon.draining = True
        await daemon.stop()
        await monitoring.close()
        server.close()
    log.info("stopped")


def _stop_on_signals(stop: asyncio.Event) -> None:
    """Drain at the first signal, end at once at the second.

    SIGINT and SIGBREAK come from the terminal, SIGTERM from service managers and `kill`.
    """
    loop = asyncio.get_running_loop()

    def on_signal(number: int, _frame: Any) -> None:
        if stop.is_set():
            os._exit(128 + number)
        loop.call_soon_threadsafe(stop.set)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), on_signal)


def _worker(args: Sequence[str]) -> int:
    from .workers.loop import main as run_worker

    return run_worker(args)


def _command_line(name: str) -> Callable[[Sequence[str]], int]:
    def run(args: Sequence[str]) -> int:
        from . import command_line

        return command_line.COMMANDS[name](args)

    return run


def _demo(args: Sequence[str]) -> int:
    from .demo.command import main as run_demo

    return run_demo(args)


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "worker": _worker,
    "demo": _demo,
    **{name: _command_line(name) for name in ("status", "stop", "top", "logs")},
}
