"""The areas of `luna.py test`: which exist in this checkout, and what each of them runs."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import chromium, comfyui
from .console import CommandError, say
from .installer import run_quietly
from .lint import run_lint
from .results import Result, result_of, summary

# Area → folder of its tests. `unit` is everything in tests/ that belongs to no other area.
FOLDERS = {
    "unit": "tests",
    "end_to_end": "tests/end_to_end",
    "comfyui": "tests/comfyui",
    "page": "tests/page",
    "js": "tests/js",
    "soak": "tests/soak",
}
ON_DEMAND = ("soak",)  # takes minutes: runs only when it is asked for
UNIT_WORKERS = "2"
# By file: the tests of a file share servers and models.
COMFYUI_WORKERS = ("-n", "2", "--dist", "loadfile")
COMFYUI_TEST_PACKAGES = ("pytest", "pytest-timeout")
SIDE_BY_SIDE = "pytest-xdist"  # in ComfyUI's environment only where we may install; it saves time

# What the pytest script does. `python -m pytest` would put the checkout on sys.path, where its `nodes`
# and `utils` hide ComfyUI's; where the script is depends on the kind of environment.
_PYTEST = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import pytest
sys.exit(pytest.main())
"""

Paths = dict[str, tuple[str, ...]]  # area → test paths named on the command line


@dataclass(frozen=True)
class RunPlan:
    """What `luna.py test` was asked for."""

    root: Path
    state: Path
    python: Path
    areas: tuple[str, ...]
    paths: Paths
    pytest_arguments: tuple[str, ...]
    may_install: bool


def areas_in(root: Path) -> tuple[str, ...]:
    """Return the areas that this checkout has, in the order in which they run."""
    return ("lint", *(area for area, folder in FOLDERS.items() if (root / folder).is_dir()))


def choose_areas(only: Sequence[str], paths: Paths, areas: Sequence[str]) -> tuple[str, ...]:
    """Return the areas to run: those asked for, else those of the paths, else all but the long ones."""
    chosen = only or list(paths) or [area for area in areas if area not in ON_DEMAND]
    return tuple(area for area in areas if area in chosen)


def area_of(path: str) -> str:
    """Return the area of a test path that is relative to the root and has forward slashes."""
    for area, folder in FOLDERS.items():
        if area != "unit" and (path == folder or path.startswith((f"{folder}/", f"{folder}::"))):
            return area
    return "unit"


def split_paths(arguments: Sequence[str], root: Path) -> tuple[Paths, tuple[str, ...]]:
    """Part the paths of tests from the options. Returns the paths by area, and the rest."""
    paths: Paths = {}
    rest = []
    for argument in arguments:
        file, separator, node = argument.partition("::")
        full = (root / file).resolve()
        if argument.startswith("-") or not full.exists() or not full.is_relative_to(root / "tests"):
            rest.append(argument)
            continue
        path = full.relative_to(root).as_posix() + separator + node
        paths[area_of(path)] = (*paths.get(area_of(path), ()), path)
    return paths, tuple(rest)


def pytest_arguments(area: str, paths: Sequence[str], rest: Sequence[str], root: Path) -> list[str]:
    """Return the arguments of pytest for one area. The user's come last, so that they win."""
    if paths:
        return [*paths, *rest]
    arguments = [FOLDERS[area]]
    if area == "unit":
        elsewhere = [folder for other, folder in FOLDERS.items() if other != area]
        arguments += ["-n", UNIT_WORKERS, *(f"--ignore={root / folder}" for folder in elsewhere)]
    return [*arguments, *rest]


def run_areas(plan: RunPlan) -> bool:
    """Run the areas, also after one failed, and print the summary. Returns whether all passed."""
    results = []
    for area in plan.areas:
        say(f"\n== {area} ==")
        started = time.monotonic()
        result = _RUNNERS[area](plan, area)
        results.append(dataclasses.replace(result, seconds=time.monotonic() - started))
    say(summary(results))
    return all(result.ok for result in results)


def _run_lint(plan: RunPlan, area: str) -> Result:
    return Result(area, ok=run_lint(plan.python, plan.root, plan.state))


def _run_with_ours(plan: RunPlan, area: str) -> Result:
    return _run_pytest(plan, area, plan.python, os.environ)


def _run_with_comfyui(plan: RunPlan, area: str) -> Result:
    """Run with ComfyUI's interpreter; without a ComfyUI, run with ours and let the tests skip."""
    try:
        pythons = (plan.python, Path(sys.executable))  # ours, and the one that runs luna.py
        found = comfyui.find_comfyui(os.environ, plan.root, Path.home(), *pythons)
        _prepare_comfyui(plan, found)
    except comfyui.NoComfyUIError as reason:
        say(f"{reason} The tests will be skipped.")
        return _run_with_ours(plan, area)
    except CommandError as error:
        say(str(error))
        return Result(area, ok=False, failed=1, note="not run, see above")
    say(f"ComfyUI in {found.root}, run by {found.python}")
    names = {"COMFYUI_PATH": str(found.root), "COMFYUI_PYTHON": str(found.python)}
    workers = () if comfyui.missing_packages(found.python, [SIDE_BY_SIDE]) else COMFYUI_WORKERS
    return _run_pytest(plan, area, found.python, {**os.environ, **names}, workers)


def _run_page(plan: RunPlan, area: str) -> Result:
    """Run with a browser; without one the tests skip, and say why."""
    try:
        try:
            browser = chromium.find_chromium(os.environ)
        except chromium.NoChromiumError:
            if not chromium.install_chromium(os.environ):
                return _run_with_ours(plan, area)
            browser = chromium.find_chromium(os.environ)
    except chromium.NoChromiumError as reason:
        say(f"{reason} The tests will be skipped.")
        return _run_with_ours(plan, area)
    except CommandError as error:
        say(str(error))
        return Result(area, ok=False, failed=1, note="not run, see above")
    return _run_pytest(plan, area, plan.python, {**os.environ, "CHROMIUM": str(browser)})


def _prepare_comfyui(plan: RunPlan, found: comfyui.ComfyUI) -> None:
    requirements = plan.root / "requirements.txt"
    wanted = [*requirement_names(requirements.read_text("utf-8")), *COMFYUI_TEST_PACKAGES]
    if plan.may_install:
        wanted.append(SIDE_BY_SIDE)
    missing = comfyui.missing_packages(found.python, wanted)
    if not missing:
        return
    install = [str(found.python), "-m", "pip", "install", "-r", str(requirements)]
    install += (*COMFYUI_TEST_PACKAGES, SIDE_BY_SIDE)
    lacking = f"ComfyUI's environment lacks {', '.join(missing)}."
    if not plan.may_install:
        raise CommandError(
            f"{lacking} Install what the tests need there:\n    {shlex.join(install)}\n"
            "or let luna.py do it: luna.py test --only comfyui --install"
        )
    say(f"{lacking} Installing into {found.python} ...")
    if run_quietly(install, timeout_s=900) is None:
        raise CommandError(f"That failed. To see why:\n    {shlex.join(install)}")


def requirement_names(text: str) -> list[str]:
    """Return the package names in the text of a requirements file."""
    matches = (re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line) for line in text.splitlines())
    return [match[1] for match in matches if match]


def _run_pytest(
    plan: RunPlan, area: str, python: Path, environ: Mapping[str, str], more: Sequence[str] = ()
) -> Result:
    arguments = pytest_arguments(area, plan.paths.get(area, ()), plan.pytest_arguments, plan.root)
    arguments = [*more, *arguments]  # the user's come last, so that they win
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "results.xml"
        command = [str(python), "-c", _PYTEST, f"--junitxml={junit}", *arguments]
        # With the spinning threads that are the default, shared cores make tests many times slower.
        environ = {"OMP_NUM_THREADS": "1", **environ}
        code = subprocess.run(command, cwd=plan.root, env=environ, check=False).returncode
        return result_of(area, code, junit, lenient=bool(plan.pytest_arguments))


def _run_node(plan: RunPlan, area: str) -> Result:
    node = shutil.which("node")
    if node is None:
        say("node was not found. The JavaScript tests need Node.js 20 or newer.")
        return Result(area, ok=False, failed=1, note="not run, see above")
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "results.xml"
        reporters = []
        for reporter, destination in (("spec", "stdout"), ("junit", str(junit))):
            reporters.append(f"--test-reporter={reporter}")
            reporters.append(f"--test-reporter-destination={destination}")
        paths = plan.paths.get(area, (FOLDERS[area],))
        command = [node, "--test", *reporters, *paths]
        code = subprocess.run(command, cwd=plan.root, check=False).returncode
        return result_of(area, code, junit, lenient=False)


_RUNNERS: dict[str, Callable[[RunPlan, str], Result]] = {
    "lint": _run_lint,
    "unit": _run_with_ours,
    "end_to_end": _run_with_ours,
    "comfyui": _run_with_comfyui,
    "page": _run_page,
    "js": _run_node,
    "soak": _run_with_ours,
}
