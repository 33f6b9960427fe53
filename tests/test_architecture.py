"""Every file of ours imports only what its layer may import."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _import_rules():
    # importlib mode does not make neighbours of a test importable.
    spec = importlib.util.spec_from_file_location("import_rules", ROOT / "tests/import_rules.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


rules = _import_rules()
SUPERVISOR_ROOTS = (*rules.SUPERVISOR, "main", "scheduler", "workers")
CLIENT_ROOTS = (*rules.CLIENT, "command_line")


@pytest.mark.parametrize("path", rules.files_in(ROOT), ids=lambda path: rules.module_of(path, ROOT))
def test_imports_follow_the_layers(path):
    assert rules.violations(path, ROOT) == []


def test_the_table_knows_the_layers_that_it_names():
    named = {name for layer in rules.LAYERS.values() for name in layer.may}
    assert named <= set(rules.LAYERS)


def test_no_modules_import_each_other():
    assert rules.find_cycle(ROOT) == []


@pytest.mark.parametrize("names", [SUPERVISOR_ROOTS, CLIENT_ROOTS], ids=["supervisor", "client"])
def test_importing_it_loads_neither_torch_nor_comfyui(names):
    folders = tuple(f"luna_daemon/{name}" for name in names)
    modules = [rules.module_of(path, ROOT) for path in rules.files_in(ROOT)]
    loaded = rules.loaded_by([name for name in modules if name.startswith(folders)], ROOT)
    assert {name: by for name, by in loaded.items() if name in rules.TORCH | rules.COMFY} == {}


@pytest.mark.parametrize("module", ["main", "server", "client"])
def test_a_process_that_imports_it_has_no_torch(module):
    launcher = ROOT / "luna_daemon" / "daemon_server.py"
    script = (
        f"import runpy, sys; runpy.run_path({str(launcher)!r});"
        f"import luna_collection.luna_daemon.{module};"
        "print([name for name in ('torch', 'transformers', 'comfy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


# (file, its text, a part of what the checker has to say; "" if nothing)
PLANTED = {
    "utils imports ComfyUI": ("utils/a.py", "import comfy.sd", "utils must not import comfy.sd"),
    "utils opens sockets": ("utils/a.py", "import socket", "must not import socket"),
    "utils imports the daemon": (
        "utils/a.py",
        "from ..luna_daemon import client",
        "must not import luna_daemon/client",
    ),
    "utils imports nodes": ("utils/images/a.py", "from ...nodes import x", "must not import nodes"),
    "utils imports itself": ("utils/images/a.py", "from ..errors import InputError", ""),
    "protocol imports torch": ("luna_daemon/protocol/a.py", "import torch", "not import torch"),
    "protocol opens sockets": (
        "luna_daemon/protocol/a.py",
        "from asyncio import streams",
        "not import asyncio",
    ),
    "protocol imports transport": (
        "luna_daemon/protocol/a.py",
        "from ..transport.arena import Arena",
        "not import luna_daemon/transport",
    ),
    "transport imports ComfyUI": (
        "luna_daemon/transport/tensors.py",
        "import comfy",
        "import comfy",
    ),
    "the supervisor's transport imports torch": (
        "luna_daemon/transport/channel.py",
        "import torch",
        "must not import torch",
    ),
    "the supervisor's transport imports the one that knows torch": (
        "luna_daemon/transport/channel.py",
        "from .tensors import unpack",
        "must not import luna_daemon/transport/tensors",
    ),
    "tensors may import torch": ("luna_daemon/transport/tensors.py", "import torch", ""),
    "cuda may import torch": ("luna_daemon/transport/cuda.py", "import torch", ""),
    "the client imports the server": (
        "luna_daemon/client.py",
        "from .server import Server",
        "must not import luna_daemon/server",
    ),
    "the client imports torch at its top": (
        "luna_daemon/client.py",
        "import torch",
        "only inside functions",
    ),
    "the client imports ComfyUI": ("luna_daemon/client.py", "import folder_paths", "folder_paths"),
    "the proxy may import ComfyUI and torch": (
        "luna_daemon/proxy/clip.py",
        "import comfy, torch",
        "",
    ),
    "the proxy imports nodes": (
        "luna_daemon/proxy/clip.py",
        "from ...nodes import registry",
        "must not import nodes",
    ),
    "the scheduler imports torch": ("luna_daemon/scheduler/a.py", "import torch", "import torch"),
    "the scheduler starts threads": (
        "luna_daemon/scheduler/a.py",
        "import threading",
        "must not import threading",
    ),
    "the scheduler uses asyncio in a function": (
        "luna_daemon/scheduler/a.py",
        "def f():\n    import asyncio",
        "a.py:2: luna_daemon/scheduler must not import asyncio",
    ),
    "the scheduler imports workers": (
        "luna_daemon/scheduler/a.py",
        "from ..workers import pool",
        "must not import luna_daemon/workers",
    ),
    "a worker's pool imports torch in a function": (
        "luna_daemon/workers/pool.py",
        "def f():\n    import torch",
        "must not import torch",
    ),
    "the worker loop imports an engine at its top": (
        "luna_daemon/workers/loop.py",
        "from ..engines.hf import engine",
        "only inside functions",
    ),
    "the worker loop may import an engine in a function": (
        "luna_daemon/workers/loop.py",
        "def f():\n    from ..engines.hf import engine\n    import torch",
        "",
    ),
    "the worker loop may import types of an engine for type checkers": (
        "luna_daemon/workers/loop.py",
        "if TYPE_CHECKING:\n    from ..engines.engine import Engine",
        "",
    ),
    "a worker's pool imports types of an engine": (
        "luna_daemon/workers/pool.py",
        "if TYPE_CHECKING:\n    from ..engines.engine import Engine",
        "must not import luna_daemon/engines",
    ),
    "the worker loop imports ComfyUI in a function": (
        "luna_daemon/workers/loop.py",
        "def f():\n    import comfy",
        "must not import comfy",
    ),
    "an engine imports the server": (
        "luna_daemon/engines/hf/a.py",
        "from ...server import Server",
        "must not import luna_daemon/server",
    ),
    "an engine imports the client": (
        "luna_daemon/engines/a.py",
        "from ..client import DaemonClient",
        "must not import luna_daemon/client",
    ),
    "an engine may import ComfyUI": ("luna_daemon/engines/comfy/a.py", "import comfy.sd", ""),
    "the server imports torch": ("luna_daemon/server.py", "import torch.cuda", "torch.cuda"),
    "the dispatcher imports an engine": (
        "luna_daemon/dispatcher.py",
        "from .engines import engine",
        "must not import luna_daemon/engines",
    ),
    "a handler imports an engine by name": (
        "luna_daemon/handlers/a.py",
        "import importlib\nimportlib.import_module('..engines.hf', __package__)",
        "must not import luna_daemon/engines/hf",
    ),
    "a handler imports torch by name": (
        "luna_daemon/handlers/a.py",
        "__import__('torch')",
        "must not import torch",
    ),
    "a node imports the scheduler": (
        "nodes/loaders/luna_a.py",
        "from ...luna_daemon.scheduler import placement",
        "must not import luna_daemon/scheduler",
    ),
    "a node may import the proxy and ComfyUI": (
        "nodes/luna_a.py",
        "import comfy\ndef f():\n    from ..luna_daemon.proxy.clip import DaemonCLIP",
        "",
    ),
    "a node imports the proxy at its top": (
        "nodes/luna_a.py",
        "from ..luna_daemon.proxy.clip import DaemonCLIP",
        "only inside functions",
    ),
    "our own package by absolute name": (
        "nodes/luna_a.py",
        "from utils.errors import InputError",
        "absolute name",
    ),
    "our own alias by absolute name": (
        "luna_daemon/client.py",
        "import luna_collection.utils",
        "absolute name",
    ),
    "pickle anywhere": ("utils/a.py", "def f():\n    import pickle", "must not import pickle"),
    "a file without a layer": ("luna_daemon/helpers.py", "", "belongs to no layer"),
}


@pytest.mark.parametrize(("file", "text", "expected"), PLANTED.values(), ids=PLANTED.keys())
def test_the_checker_finds_what_is_planted(tmp_path, file, text, expected):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text, "utf-8")
    found = rules.violations(path, tmp_path)
    if expected:
        assert len(found) == 1, found
        assert expected in found[0]
    else:
        assert found == []


def test_what_a_module_loads_is_followed_all_the_way_down(tmp_path):
    files = {
        "luna_daemon/server.py": "from .transport.channel import Channel",
        "luna_daemon/transport/__init__.py": "from .tensors import to_segments",
        "luna_daemon/transport/tensors.py": "import torch\ndef f():\n    import comfy",
        "luna_daemon/transport/channel.py": "import socket",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    loaded = rules.loaded_by(["luna_daemon/server"], tmp_path)
    assert loaded == {
        "torch": "luna_daemon/transport/tensors",
        "socket": "luna_daemon/transport/channel",
    }


def test_a_ring_of_imports_is_found(tmp_path):
    files = {
        "luna_daemon/server.py": "from .handlers import text",
        "luna_daemon/handlers/__init__.py": "",
        "luna_daemon/handlers/text.py": "from ..dispatcher import Table",
        "luna_daemon/dispatcher.py": "def f():\n    from .server import Server\nfrom .handlers.text import x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    ring = ["luna_daemon/dispatcher", "luna_daemon/handlers/text", "luna_daemon/dispatcher"]
    assert rules.find_cycle(tmp_path) == ring


# What a person reads may be a time of day, and the times of files are. What anything waits for may not be
# one: that clock can be set.
USES_THE_TIME_OF_DAY = {"luna_daemon/supervisor.py", "utils/wildcards/folders.py"}


def test_nothing_waits_by_the_clock_on_the_wall():
    uses = {
        path.relative_to(ROOT).as_posix()
        for folder in ("luna_daemon", "nodes", "utils")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("time", "time_ns")
        and isinstance(node.value, ast.Name)
        and node.value.id == "time"
    }
    assert uses == USES_THE_TIME_OF_DAY
