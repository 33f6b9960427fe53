"""The sub-commands of luna.py. Each makes sure of .venv first, then runs something with it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .areas import RunPlan, areas_in, choose_areas, run_areas, split_paths
from .console import CommandError, say
from .environment import ensure_environment
from .paths import BENCHMARKS, DAEMON, PACKS, ROOT, STATE, TESTS, WEIGHTS, WILDCARDS

USAGE_ERROR = 2
INTERRUPTED = 130  # what shells report for Ctrl-C


@dataclass(frozen=True)
class Command:
    """A sub-command. `needs`: the file or folder without which there is no such command."""

    arguments: str
    help: str
    run: Callable[[Sequence[str]], int]
    needs: Path


def main(argv: Sequence[str]) -> int:
    """Run one sub-command and return the exit code of the process."""
    try:
        return _run(argv)
    except CommandError as error:
        say(str(error))
        return 1
    except BrokenPipeError:
        # Whoever read the output has gone; Python must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        say(f"{error}. The command needs to write in {ROOT}.")
        return 1
    except KeyboardInterrupt:
        say("\nInterrupted. Whatever was left half done is repaired by the next run.")
        return INTERRUPTED


def _run(argv: Sequence[str]) -> int:
    menu = {name: command for name, command in COMMANDS.items() if command.needs.exists()}
    if not argv or argv[0] in ("-h", "--help", "help"):
        say(help_text(menu))
        return 0 if argv else USAGE_ERROR
    if argv[0] not in menu:
        say(f"luna.py has no command '{argv[0]}' here. It has: {', '.join(menu)}.")
        return USAGE_ERROR
    return menu[argv[0]].run(argv[1:])


def help_text(menu: dict[str, Command]) -> str:
    """Return what `luna.py --help` shows."""
    calls = {name: f"{name} {command.arguments}".strip() for name, command in menu.items()}
    width = max(map(len, calls.values()))
    lines = [f"  {calls[name]:<{width}}  {command.help}" for name, command in menu.items()]
    return "\n".join(
        [
            "usage: python3 luna.py COMMAND [ARGUMENTS]",
            "",
            *lines,
            "",
            "Every command first makes or updates .venv beside luna.py, if needed.",
        ]
    )


def _setup(arguments: Sequence[str]) -> int:
    if arguments:
        say("luna.py setup takes no arguments.")
        return USAGE_ERROR
    say(f"The environment is ready: {ensure_environment()}")
    return 0


def _demo(arguments: Sequence[str]) -> int:
    return _run_python(DAEMON, "demo", *arguments)


def _daemon(arguments: Sequence[str]) -> int:
    return _run_python(DAEMON, *arguments)


def _bench(arguments: Sequence[str]) -> int:
    return _run_python(BENCHMARKS, *arguments)


def _packs(arguments: Sequence[str]) -> int:
    return _run_python(PACKS, *arguments)


def _wildcards(arguments: Sequence[str]) -> int:
    return _run_python(WILDCARDS, *arguments)


def _convert(arguments: Sequence[str]) -> int:
    return _run_python(WEIGHTS, "convert", *arguments)


def _extract(arguments: Sequence[str]) -> int:
    return _run_python(WEIGHTS, "extract", *arguments)


def _inspect(arguments: Sequence[str]) -> int:
    return _run_python(WEIGHTS, "inspect", *arguments)


def _run_python(script: Path, *arguments: str) -> int:
    command = [str(ensure_environment()), str(script), *arguments]
    if os.name != "nt":
        # Signals sent to this process have to reach the daemon, so it becomes the daemon.
        sys.stdout.flush()
        os.execv(command[0], command)
    with subprocess.Popen(command) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            # The child got the same Ctrl+C from the terminal and decides how to stop.
            return child.wait()


def _test(arguments: Sequence[str]) -> int:
    areas = areas_in(ROOT)
    parser = argparse.ArgumentParser(
        prog="luna.py test",
        description="Runs every area, also after one failed. Other arguments go to pytest.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=areas,
        help="run only this area; may be given more than once",
    )
    parser.add_argument(
        "--install",
        action="store_true",
        default=bool(os.environ.get("CI")),
        help="install what the tests need into ComfyUI's environment (also when CI is set)",
    )
    options, others = parser.parse_known_args(arguments)
    paths, pytest_arguments = split_paths(others, ROOT)
    plan = RunPlan(
        root=ROOT,
        state=STATE,
        python=ensure_environment(),
        areas=choose_areas(options.only or (), paths, areas),
        paths=paths,
        pytest_arguments=pytest_arguments,
        may_install=options.install,
    )
    return 0 if run_areas(plan) else 1


COMMANDS = {
    "setup": Command("", "make or update .venv", _setup, ROOT),
    "demo": Command(
        "[ARGUMENTS]", "show the daemon at work, on models made on the spot", _demo, DAEMON
    ),
    "daemon": Command("[ARGUMENTS]", "run the daemon; --help lists its settings", _daemon, DAEMON),
    "test": Command(
        "[--only AREA] [PYTEST ARGUMENTS]", "run the checks and the tests", _test, TESTS
    ),
    "bench": Command("[AREA...]", "measure, and write a table", _bench, BENCHMARKS),
    "packs": Command(
        "FOLDER...",
        "compare other packs' nodes on the daemon's models and on local ones",
        _packs,
        PACKS,
    ),
    "convert": Command(
        "SRC... --to PRECISION", "write diffusion models as fp8, GGUF, …", _convert, WEIGHTS
    ),
    "extract": Command(
        "FILE...", "write a checkpoint's text encoders and VAE as files", _extract, WEIGHTS
    ),
    "inspect": Command("FILE...", "say what a weight file is", _inspect, WEIGHTS),
    "wildcards": Command(
        "lint DIR | sample TEXT [DIR...]", "check wildcards, or try them", _wildcards, WILDCARDS
    ),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
