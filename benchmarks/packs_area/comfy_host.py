"""ComfyUI in this process as its main program has it: all its nodes, its server object, its executor."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import random
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import graph_nodes, stand_ins
from .graphs import Catalogue, Graph, NodeKind
from .known_cases import AVOIDED, DEFAULTS
from .slots import GIVEN


@dataclass(frozen=True)
class Loaded:
    """How loading a pack went: what was said on the way, and why it failed ("" when it did not)."""

    said: list[str]
    failed: str


class _Listener(logging.Handler):
    """Keeps warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def start_comfyui(comfyui: Path, base: Path) -> ComfyHost:
    """Import ComfyUI with its command line of a server on the CPU, and load its own nodes."""
    torch.set_num_threads(1)
    _compile_quickly()
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(comfyui))
    sys.argv = ["main.py", "--cpu", "--base-directory", str(base), "--disable-api-nodes"]
    importlib.import_module("comfy.options").enable_args_parsing()
    importlib.import_module("comfy.cli_args")
    logging.basicConfig(level=logging.INFO)
    return ComfyHost()


def _compile_quickly() -> None:
    """Let torch.compile trace and wrap models as ever, but generate no code, which takes minutes."""
    usual = torch.compile

    def compile_(model: Any = None, **options: Any) -> Any:
        kept = {name: options[name] for name in ("fullgraph", "dynamic") if name in options}
        return usual(model, backend="eager", **kept)

    torch.compile = compile_  # type: ignore[assignment]


class ComfyHost:
    """ComfyUI's nodes and executor."""

    def __init__(self) -> None:
        self.nodes: Any = importlib.import_module("nodes")
        self._execution: Any = importlib.import_module("execution")
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._server: Any = importlib.import_module("server").PromptServer(self._loop)
        self._server.add_routes()
        self._wait(self.nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
        self.nodes.NODE_CLASS_MAPPINGS.update(graph_nodes.NODES)
        self._stock = set(self.nodes.NODE_CLASS_MAPPINGS)

    def load_pack(self, folder: Path) -> Loaded:
        """Import a pack as ComfyUI does."""
        listener = _Listener()
        logging.getLogger().addHandler(listener)
        try:
            self._run_prestartup(folder / "prestartup_script.py")
            is_loaded = self._wait(self.nodes.load_custom_node(str(folder)))
        finally:
            logging.getLogger().removeHandler(listener)
        said = [text.strip() for text in listener.texts if "Traceback" not in text]
        failed = "" if is_loaded else (said[-1] if said else "ComfyUI says no reason.")
        return Loaded(said, failed)

    def catalogue(self) -> Catalogue:
        """Return what there is now: the pack's nodes, and ComfyUI's."""
        own: dict[str, NodeKind] = {}
        stock: dict[str, NodeKind] = {}
        for name, node in self.nodes.NODE_CLASS_MAPPINGS.items():
            if name in graph_nodes.NODES:
                continue
            table = stock if name in self._stock else own
            try:
                declared, outputs = node.INPUT_TYPES(), getattr(node, "RETURN_TYPES", ())
            except Exception as error:  # noqa: BLE001  # boundary: foreign code; the other nodes go on
                logging.getLogger("luna").warning("%s cannot be asked: %r", name, error)
                continue
            table[name] = NodeKind.of(name, declared, outputs)
        return Catalogue(own, stock, (*GIVEN, *stand_ins.MAKERS), DEFAULTS, AVOIDED)

    def execute(self, graph: Graph, target: str) -> BaseException | None:
        """Run a graph with ComfyUI's executor; return what a node raised."""
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(0)
        executor = _executor(self._execution)(self._server)
        self._wait(executor.execute_async(graph, "luna", {"extra_pnginfo": {}}, [target]))
        return executor.raised

    def _wait(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def _run_prestartup(self, script: Path) -> None:
        if not script.is_file():
            return
        spec = importlib.util.spec_from_file_location(str(script.with_suffix("")), script)
        assert spec is not None, "a Python file"
        assert spec.loader is not None, "a Python file"
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def _executor(execution: Any) -> type[Any]:
    class Executor(execution.PromptExecutor):  # type: ignore[misc, name-defined]
        """Keeps the exception itself, of which ComfyUI's page is told the text only."""

        def __init__(self, server: Any) -> None:
            room = {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
            super().__init__(server, execution.CacheType.CLASSIC, room)
            self.raised: BaseException | None = None

        def handle_execution_error(self, *told: Any, **more: Any) -> None:
            found = [thing for thing in (*told, *more.values()) if isinstance(thing, BaseException)]
            self.raised = found[0] if found else RuntimeError("a node failed without an exception")

    return Executor
