"""However the daemon is started, our code has one name and ComfyUI's names stay ComfyUI's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER_FILES = ("__init__.py", "__main__.py", "daemon_server.py", "package_alias.py")

# Stands in for the daemon's main: starts a worker process the way the daemon may, and tells what both
# processes find.
MAIN = """
import importlib.util, multiprocessing, sys

def found(connection):
    connection.send([importlib.util.find_spec(name) is None for name in ("utils", "nodes", "protocol")])

def main(argv):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=found, args=(theirs,))
    child.start()
    theirs.close()
    print(__name__, argv, ours.recv())
    child.join()
    return 7
"""


@pytest.fixture
def checkout(tmp_path: Path, root: Path) -> Path:
    """A small checkout whose folder cannot be imported by name."""
    checkout = tmp_path / "ComfyUI-Luna-Collection"
    daemon = checkout / "luna_daemon"
    daemon.mkdir(parents=True)
    for name in LAUNCHER_FILES:
        shutil.copy2(root / "luna_daemon" / name, daemon / name)
    (daemon / "main.py").write_text(MAIN, "utf-8")
    for folder in ("utils", "nodes", "luna_daemon/protocol"):
        (checkout / folder).mkdir()
        (checkout / folder / "__init__.py").write_text("", "utf-8")
    shutil.copy2(root / "__init__.py", checkout / "__init__.py")
    return checkout


@pytest.mark.parametrize(
    "start", [["luna_daemon/daemon_server.py"], ["-m", "luna_daemon"]], ids=" ".join
)
def test_parent_and_worker_find_our_code_and_none_of_comfyuis_names(checkout, start):
    done = subprocess.run(
        [sys.executable, *start, "--port", "1"],
        cwd=checkout,
        env={"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = "luna_collection.luna_daemon.main ['--port', '1'] [True, True, True]"
    assert done.stdout.strip() == expected, done.stderr
    assert done.returncode == 7


def test_a_second_checkout_in_one_process_is_refused(checkout, root):
    script = (
        "import runpy;"
        f"runpy.run_path({str(root / 'luna_daemon' / 'daemon_server.py')!r});"
        f"runpy.run_path({str(checkout / 'luna_daemon' / 'daemon_server.py')!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "'luna_collection' is already loaded" in done.stderr
    assert done.returncode != 0
