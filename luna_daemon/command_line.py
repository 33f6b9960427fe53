"""Commands that talk to a running daemon: status, top, logs, stop."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .client import DaemonClient
from .config import DaemonConfig
from .config_sources import resolve
from .errors import DaemonUnreachableError
from .instance_lock import read_record

MIB = 2**20
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
    console, pause = Console(), max(0.1, options.every)
    with DaemonClient(config=_config(options)) as client:
        try:
            if not console.is_terminal:  # a file or a pipe gets one status after the other
                while True:
                    console.print(render(client.status()))
                    sys.stdout.flush()
                    time.sleep(pause)
            with Live(render(client.status()), screen=True, console=console) as live:
                while True:
                    time.sleep(pause)
                    live.update(render(client.status()))
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


def render(snapshot: dict[str, Any]) -> Group:
    """Return a status snapshot as tables."""
    head = Text(
        f"Luna daemon {snapshot['version']} · {snapshot['state']} · pid {snapshot['pid']} · "
        f"up {snapshot['uptime_s']:.0f} s · engine {snapshot['engine']} · service {snapshot['service_type']} · "
        f"{snapshot['rss_bytes'] / MIB:.0f} MB"
    )
    return Group(
        head, _workers(snapshot), _models(snapshot), _workflows(snapshot), _requests(snapshot)
    )


def _workers(snapshot: dict[str, Any]) -> Table:
    table = Table(
        "device",
        "worker",
        "pid",
        "state",
        "waiting",
        "MB",
        "budget MB",
        "deaths",
        "cached",
        title="Workers",
    )
    for device, entry in snapshot["devices"].items():
        for worker in entry["workers"] or [None]:
            if worker is None:
                table.add_row(
                    device,
                    "none yet",
                    "",
                    "",
                    str(entry["waiting"]),
                    "",
                    _mb(entry["budget_bytes"]),
                    "",
                    "",
                )
                continue
            cache = worker["conditioning_cache"]
            table.add_row(
                device,
                worker["name"],
                str(worker["pid"] or ""),
                worker["state"],
                str(entry["waiting"]),
                _mb(worker["rss_bytes"]),
                _mb(entry["budget_bytes"]),
                str(worker["deaths"]),
                f"{cache['entries']} ({cache['hits']} hits)" if cache else "",
            )
    return table


def _models(snapshot: dict[str, Any]) -> Table:
    table = Table(
        "model", "role", "precision", "MB", "device", "workflows", title="Models in memory"
    )
    for device, entry in snapshot["devices"].items():
        for model in (model for worker in entry["workers"] for model in worker["models"]):
            users = ", ".join(model["workflows"]) or "none"
            table.add_row(
                model["name"],
                model["role"],
                model["precision"],
                _mb(model["nbytes"]),
                device,
                users,
            )
    return table


def _workflows(snapshot: dict[str, Any]) -> Table:
    transports = {entry["session"]: entry["transport"] for entry in snapshot["sessions"]}
    table = Table("workflow", "model type", "models", "transport", title="Workflows")
    for entry in snapshot["workflows"]:
        transport = "connection lost" if entry["lost"] else transports.get(entry["session"], "")
        table.add_row(
            entry["workflow_id"], entry["model_type"], ", ".join(entry["models"]), transport
        )
    return table


def _requests(snapshot: dict[str, Any]) -> Table:
    table = Table("what", "count", "median ms", "99 % ms", title="Requests")
    for name, entry in snapshot["durations"].items():
        table.add_row(name, str(entry["count"]), f"{entry['p50_ms']:.1f}", f"{entry['p99_ms']:.1f}")
    for name, number in snapshot["counters"].items():
        table.add_row(name, str(number), "", "")
    return table


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


def _mb(nbytes: int) -> str:
    return f"{nbytes / MIB:.0f}"


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "status": status,
    "top": top,
    "logs": logs,
    "stop": stop,
}
