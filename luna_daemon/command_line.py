"""Commands that talk to a running daemon: status, top, logs, stop."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live

from .client import DaemonClient
from .config import DaemonConfig
from .config_sources import resolve
from .errors import DaemonUnreachableError
from .instance_lock import read_record
from .monitoring.status_tables import RequestRate, render

STOP_TIMEOUT_S = 60.0


def status(args: Sequence[str]) -> int:
    """Print what the daemon holds and does."""
    parser = _parser("status", "Show what the daemon holds and does.")
    parser.add_argument("--json", action="store_true", help="Print the whole snapshot as JSON.")
    options = parser.parse_args(args)
    with DaemonClient(config=_config(options)) as client:
        snapshot = client.status()
    if options.json:
        sys.stdout.write(json.dumps(snapshot, indent=2) + "\n")
    else:
        Console().print(render(snapshot))
    return 0


def top(args: Sequence[str]) -> int:
    """Show the status again and again."""
    parser = _parser("top", "Show the daemon's status, renewed until Ctrl-C.")
    parser.add_argument(
        "--every", type=float, default=1.0, metavar="SECONDS", help="How often (default: 1)."
    )
    options = parser.parse_args(args)
    console, pause, rate = Console(), max(0.1, options.every), RequestRate()
    with DaemonClient(config=_config(options)) as client:

        def shown() -> Group:
            snapshot = client.status()
            return render(snapshot, rate.since_the_last(snapshot, time.monotonic()))

        try:
            if not console.is_terminal:  # a file or a pipe gets one status after the other
                while True:
                    console.print(shown())
                    sys.stdout.flush()
                    time.sleep(pause)
            with Live(shown(), screen=True, console=console) as live:
                while True:
                    time.sleep(pause)
                    live.update(shown())
        except KeyboardInterrupt:
            return 0


def logs(args: Sequence[str]) -> int:
    """Print the end of the daemon's log."""
    parser = _parser("logs", "Print the end of the daemon's log.")
    parser.add_argument("-n", "--lines", type=int, default=50, help="How many lines (default: 50).")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="Go on printing new lines until Ctrl-C."
    )
    options = parser.parse_args(args)
    config = _config(options)
    path = config.folder / f"daemon-{config.listen_port}.log"
    if not path.is_file():
        raise DaemonUnreachableError(
            f"There is no log at {path}.", "The daemon has not run here yet."
        )
    text = path.read_text("utf-8", errors="replace")
    for line in text.splitlines()[-options.lines :] if options.lines > 0 else []:
        sys.stdout.write(line + "\n")
    if options.follow:
        _follow(path, len(text.encode("utf-8")))
    return 0


def stop(args: Sequence[str]) -> int:
    """Let the daemon finish what runs, and wait until it has ended."""
    parser = _parser("stop", "Stop the daemon; requests that run are finished first.")
    config = _config(parser.parse_args(args))
    record = read_record(config.folder / f"daemon-{config.listen_port}.json")
    with DaemonClient(config=config) as client:
        client.stop_daemon()
    console = Console(stderr=True)
    deadline = time.monotonic() + config.drain_timeout_s + STOP_TIMEOUT_S
    with console.status("waiting for the daemon to finish …"):
        while record is not None and record.is_alive and time.monotonic() < deadline:
            time.sleep(0.05)
    if record is not None and record.is_alive:
        sys.stderr.write(
            f"luna-daemon: process {record.pid} has not ended yet; its log says why.\n"
        )
        return 1
    console.print("The daemon has stopped.")
    return 0


def _follow(path: Path, position: int) -> None:
    try:
        while True:
            time.sleep(0.3)
            size = path.stat().st_size
            position = 0 if size < position else position  # the log was begun anew
            if size > position:
                with path.open("rb") as file:
                    file.seek(position)
                    sys.stdout.write(file.read().decode("utf-8", errors="replace"))
                    sys.stdout.flush()
                    position = file.tell()
    except KeyboardInterrupt:
        return


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"luna-daemon {name}", description=description)
    parser.add_argument("--config", type=Path, metavar="FILE", help="The daemon's settings file.")
    parser.add_argument("--host", help="The daemon's address.")
    parser.add_argument("--port", type=int, help="The daemon's port; also names its socket.")
    parser.add_argument(
        "--service-type", choices=("full", "clip", "vae"), help="Which daemon in split mode."
    )
    parser.add_argument(
        "--runtime-dir", type=Path, help="The daemon's folder for socket, token and log."
    )
    return parser


def _config(options: argparse.Namespace) -> DaemonConfig:
    names = ("host", "port", "service_type", "runtime_dir")
    flags = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return resolve(flags, file=options.config).config


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "status": status,
    "top": top,
    "logs": logs,
    "stop": stop,
}
