"""The virtual environment `.venv` beside luna.py: made, repaired, and recognised as right.

A stamp inside .venv says for which pyproject.toml, requirements.txt, Python and recipe it was set up.
It is deleted before anything changes and written last, so an interrupted set-up has no stamp and the
next run goes over all steps again; each step keeps what is already there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import torch_build
from .console import CommandError, say
from .installer import Installer, run_quietly
from .lock import exclusive
from .paths import ROOT, STATE, VENV, venv_python

# Raise it when a step of the set-up changes in a way that existing environments need.
RECIPE = 1

STAMP_NAME = "luna_stamp.json"
INPUTS = ("pyproject.toml", "requirements.txt")
EXTRAS = "standalone,dev"

# Older ones cannot install a project in editable mode from pyproject.toml alone.
MINIMUM_PIP = 22

# Measured: 1.3 GB installed with the CPU build of torch and 7 GB with a CUDA build, and pip needs
# room for what it unpacks.
NEEDED_CPU_GB = 3.0
NEEDED_GPU_GB = 12.0

Stamp = dict[str, object]


def expected_stamp(root: Path, python_version: str) -> Stamp:
    """Return the stamp of an environment that is right for the files in `root`."""
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((root / name).read_bytes() + b"\0")
    return {"recipe": RECIPE, "python": python_version, "inputs": digest.hexdigest()}


def read_stamp(venv: Path) -> Stamp | None:
    """Return the stamp in an environment, or None when there is none that can be read."""
    try:
        stamp = json.loads((venv / STAMP_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def interpreter_version(python: Path) -> str | None:
    """Return e.g. "3.11", or None when the interpreter does not start."""
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    answer = run_quietly([str(python), "-I", "-S", "-c", script], timeout_s=30)
    return answer.strip() if answer else None


def is_ready(root: Path, venv: Path) -> bool:
    """Tell whether the environment is right as it is. Costs one start of its interpreter."""
    stamp = read_stamp(venv)
    version = interpreter_version(venv_python(venv)) if stamp else None
    return version is not None and stamp == expected_stamp(root, version)


def ensure_environment() -> Path:
    """Return the interpreter of .venv, after making or repairing it if needed.

    Raises:
        CommandError: It cannot be made; the text says why and what to do.
    """
    if not is_ready(ROOT, VENV):
        waiting = "Another luna.py is setting up .venv; waiting for it to finish ..."
        with exclusive(STATE / "setup.lock", waiting) as lock_descriptor:
            if not is_ready(ROOT, VENV):
                _set_up(lock_descriptor)
    return venv_python(VENV)


def _set_up(lock_descriptor: int) -> None:
    started = time.monotonic()
    python = venv_python(VENV)
    (VENV / STAMP_NAME).unlink(missing_ok=True)
    installer = Installer(python, STATE / "setup.log", ROOT, lock_descriptor)
    kept = pip_version(python) is not None
    if not kept:
        _make_venv(installer)
    build = _install(installer)
    if build is None and kept:
        say("torch in .venv is damaged.")
        _make_venv(installer)
        build = _install(installer)
    if build is None:
        raise CommandError(
            f"torch was installed but cannot be imported. Run `{python} -c 'import torch'` to see why. "
            "On Windows the Microsoft Visual C++ runtime may be missing."
        )
    say(f"torch {build[0]} ({build[1]} build)")
    _write_stamp()
    say(f".venv was set up in {time.monotonic() - started:.0f} s.")


def pip_version(python: Path) -> int | None:
    """Return the major version of an environment's pip, or None when pip does not work there."""
    answer = run_quietly([str(python), "-m", "pip", "--version"])
    number = re.match(r"pip (\d+)", answer or "")
    return int(number[1]) if number else None


def _make_venv(installer: Installer) -> None:
    _check_host()
    say("Making .venv ...")
    # When luna.py was started with .venv's own interpreter, that one must not delete itself.
    base = getattr(sys, "_base_executable", None) or sys.executable
    command = [base, "-m", "venv", "--clear", str(VENV)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    installed = pip_version(installer.python)
    if done.returncode != 0 or installed is None:
        printed = (done.stdout + done.stderr).strip()
        raise CommandError(
            f"Could not make the virtual environment {VENV}:\n{printed}\n"
            "Close programs that use it, delete the folder, and run the command again."
        )
    if installed < MINIMUM_PIP:
        installer.require("update pip", "pip", "install", "--upgrade", "pip")


def _check_host() -> None:
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise CommandError(
                f"This Python {version} comes without the module '{module}', so it cannot make a "
                f"virtual environment. On Debian and Ubuntu: sudo apt install python{version}-venv"
            )


def _install(installer: Installer) -> tuple[str, str] | None:
    """Bring in torch, then everything else. Returns torch's version and build if it can be imported."""
    python = installer.python
    if not torch_build.is_good_enough(torch_build.installed_version(python)):
        has_gpu = torch_build.has_nvidia_gpu()
        _check_disk(NEEDED_GPU_GB if has_gpu else NEEDED_CPU_GB)
        sources = torch_build.torch_sources(
            python,
            system=sys.platform,
            has_gpu=has_gpu,
            has_wheel_folder=torch_build.has_wheel_folder(python),
        )
        torch_build.install_torch(installer, sources)
    say("Installing Luna Collection and the packages it needs ...")
    constraint = STATE / "torch_constraint.txt"
    constraint.write_text(f"torch=={torch_build.installed_version(python)}\n", "utf-8")
    project = f".[{EXTRAS}]"
    installer.require(
        "install the packages", "pip", "install", "-c", str(constraint), "-e", project
    )
    return torch_build.imported_build(python)


def _check_disk(needed_gb: float) -> None:
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < needed_gb:
        raise CommandError(
            f"The set-up needs about {needed_gb:.0f} GB, and the disk of {ROOT} has "
            f"{free_gb:.1f} GB free. Free some room, then run the command again."
        )


def _write_stamp() -> None:
    version = interpreter_version(venv_python(VENV))
    if version is None:
        raise CommandError(f"{venv_python(VENV)} does not start. Delete .venv and run it again.")
    unfinished = VENV / (STAMP_NAME + ".part")
    unfinished.write_text(json.dumps(expected_stamp(ROOT, version)), "utf-8")
    unfinished.replace(VENV / STAMP_NAME)
