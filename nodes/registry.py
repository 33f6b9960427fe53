"""Finds the nodes: every module `luna_*.py` below this folder lists its node classes in `NODES`.

A file that cannot be imported, or a node whose schema ComfyUI would refuse, takes nothing else with it:
what is missing, and why, is named in the one line that the pack writes at the start.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..utils.log import get_logger

log = get_logger("nodes")
FILE_PREFIX = "luna_"


@dataclass(frozen=True, slots=True)
class Missing:
    """A file or node that is not available.

    Attributes:
        name: Of the file or the node.
        reason: In one sentence.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found."""

    nodes: tuple[type[Any], ...]
    missing: tuple[Missing, ...]

    def summary(self) -> str:
        """Return the line for ComfyUI's log."""
        loaded = f"{len(self.nodes)} nodes loaded"
        if not self.missing:
            return loaded
        listed = "; ".join(f"{each.name}: {each.reason}" for each in self.missing)
        return f"{loaded}, {len(self.missing)} unavailable ({listed})"


def discover(package: ModuleType) -> Discovery:
    """Import every node file below a package and collect its nodes."""
    nodes: list[type[Any]] = []
    missing: list[Missing] = []
    seen: dict[str, str] = {}
    for name in sorted(_node_modules(package)):
        short = name.rpartition(".")[2]
        listed = _guarded(short, functools.partial(_nodes_of, name), missing)
        for node in listed or ():
            # GET_SCHEMA is what ComfyUI calls: one bad schema would lose it all the nodes behind it.
            schema = _guarded(f"{short}.{node.__name__}", node.GET_SCHEMA, missing)
            if schema is None:
                continue
            if schema.node_id in seen:
                reason = f"{seen[schema.node_id]} has a node of the same id"
                missing.append(Missing(f"{short}.{schema.node_id}", reason))
                continue
            seen[schema.node_id] = short
            nodes.append(node)
    return Discovery(tuple(nodes), tuple(missing))


def _node_modules(package: ModuleType) -> Iterator[str]:
    # Not walk_packages, which imports the folders on the way and hides what goes wrong there.
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if info.ispkg:
            yield from _modules_in_folder(package, info)
        elif info.name.rpartition(".")[2].startswith(FILE_PREFIX):
            yield info.name


def _modules_in_folder(package: ModuleType, info: pkgutil.ModuleInfo) -> Iterator[str]:
    folder = info.name.rpartition(".")[2]
    paths = [f"{path}/{folder}" for path in package.__path__]
    for inner in pkgutil.iter_modules(paths, f"{info.name}."):
        if not inner.ispkg and inner.name.rpartition(".")[2].startswith(FILE_PREFIX):
            yield inner.name


def _nodes_of(module: str) -> Any:
    return importlib.import_module(module).NODES


def _guarded(name: str, action: Callable[[], Any], missing: list[Missing]) -> Any:
    """Return what `action` gives; None when it fails, which is noted and logged."""
    try:
        return action()
    except Exception as error:  # boundary: one file's fault must not hide the other nodes
        # The traceback is for us; the person at the screen gets the reason in the pack's one line.
        log.debug("%s is not available", name, exc_info=True)
        missing.append(Missing(name, _in_one_line(error)))
        return None


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ImportError) and error.name:
        return f"needs '{error.name}' ({text})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
