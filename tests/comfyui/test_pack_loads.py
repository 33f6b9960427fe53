"""ComfyUI starts with the pack among its custom nodes, and says so in one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from luna_command.comfyui import ComfyUI

BOOT_TIMEOUT_S = 540
FOLDER = "luna-collection"

# Releases differ in whether a line begins with its level, in colour.
LINE_START = re.compile(r"^(\x1b\[\d+m)?\[[A-Z]+\](\x1b\[0m)? ")


@pytest.fixture(scope="module")
def boot_log(
    comfyui: ComfyUI, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, list[str]]:
    """Start ComfyUI with nothing but our pack, let it stop, return exit code and log lines."""
    base = tmp_path_factory.mktemp("base")
    (base / "custom_nodes").mkdir()
    install_pack(root, base / "custom_nodes" / FOLDER)
    command = [str(comfyui.python), str(comfyui.root / "main.py"), "--cpu", "--quick-test-for-ci"]
    done = subprocess.run(
        [*command, "--base-directory", str(base)],
        cwd=comfyui.root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=BOOT_TIMEOUT_S,
        check=False,
    )
    return done.returncode, [LINE_START.sub("", line) for line in done.stdout.splitlines()]


def install_pack(root: Path, target: Path) -> None:
    """Put the pack where a user has it: linked, or copied where links are not possible."""
    try:
        target.symlink_to(root, target_is_directory=True)
    except OSError:
        shutil.copytree(root, target, ignore=shutil.ignore_patterns(".git", ".venv", ".luna"))


@pytest.mark.timeout(BOOT_TIMEOUT_S + 30)
def test_comfyui_starts_and_stops_cleanly(boot_log):
    code, lines = boot_log
    assert code == 0, "\n".join(lines[-30:])


@pytest.mark.timeout(BOOT_TIMEOUT_S + 30)
def test_the_pack_is_among_the_loaded_custom_nodes(boot_log):
    _, lines = boot_log
    ours = [line for line in lines if FOLDER in line]
    assert [line for line in ours if "seconds" in line], "\n".join(lines)
    assert not [line for line in ours if "IMPORT FAILED" in line]
    assert not [line for line in ours if "Error" in line or "Cannot import" in line]


@pytest.mark.timeout(BOOT_TIMEOUT_S + 30)
def test_the_pack_says_one_line(boot_log):
    _, lines = boot_log
    ours = [line for line in lines if line.startswith("[Luna]")]
    assert len(ours) == 1, ours
    assert ours[0].endswith("nodes loaded")


@pytest.mark.timeout(BOOT_TIMEOUT_S + 30)
def test_no_traceback_names_the_pack(boot_log):
    _, lines = boot_log
    for number, line in enumerate(lines):
        if line.startswith("Traceback"):
            assert not any(FOLDER in other for other in lines[number : number + 60]), "\n".join(
                lines
            )
