"""Who may import whom: the table of the architecture, and the checker that reads it.

Not a test: test_architecture.py runs the checker on our files and on files that break the rules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TOPS = ("utils", "luna_daemon", "nodes")
PACKAGE = "luna_collection"

TORCH = {
    "torch",
    "torchvision",
    "transformers",
    "diffusers",
    "safetensors",
    "xllamacpp",
    "llama_cpp",
}
COMFY = {
    "comfy",
    "comfy_api",
    "comfy_config",
    "comfy_execution",
    "comfy_extras",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "protocol",
    "server",
}
SOCKETS = {"asyncio", "http", "selectors", "socket", "socketserver", "ssl", "urllib"}
THREADS = {"concurrent", "multiprocessing", "subprocess", "threading"}
# They run code, or can, when they read.
UNSAFE = {"cPickle", "dill", "marshal", "pickle", "shelve"}
# Absolute names that are not what they seem inside ComfyUI, where it owns them or they do not exist.
OURS_BY_ABSOLUTE_NAME = {"luna_daemon", "utils", PACKAGE}


@dataclass(frozen=True)
class Layer:
    """One row: what a layer may import of ours, and what it must not import of others.

    `may` names layers; a layer may always import itself. `lazily` names layers and packages
    that importing the module must not load: they are allowed in function bodies and for type checkers.
    """

    may: frozenset[str]
    never: frozenset[str]
    lazily: frozenset[str] = frozenset()


def _layer(may: str, never: set[str], lazily: str = "") -> Layer:
    return Layer(
        frozenset(_full(name) for name in may.split()),
        frozenset(never | UNSAFE),
        frozenset(_full(name) for name in lazily.split()),
    )


def _full(name: str) -> str:
    if name in TOPS or name in TORCH:
        return name
    return f"luna_daemon/{name}"


# Small modules without dependencies of their own that every part of the daemon may use.
_LEAVES = "comfyui_folder errors numerics version"
# What is counted, and what is known of a request under way.
_MEASURES = "monitoring/metrics monitoring/request_trace"

# The client connects and asks for a status without torch; torch comes with the first tensor.
CLIENT = ("calls", "client", "link", "link_memory", "links", "remote_models")
_CLIENT_MAY = f"{' '.join(CLIENT)} {_LEAVES} config config_sources protocol transport utils"

# The supervisor starts quickly, stays small and survives every worker, because it never loads torch,
# ComfyUI or an engine. It passes tensors on as bytes.
SUPERVISOR = (
    "agreement",
    "answer",
    "answer_cache",
    "dispatcher",
    "gpus",
    "handlers",
    "instance_lock",
    "model_locator",
    "model_roots",
    "monitoring/exposition",
    "monitoring/gauges",
    "monitoring/http_port",
    "monitoring/log_output",
    "monitoring/metric_families",
    "monitoring/metrics",
    "monitoring/request_record",
    "monitoring/request_trace",
    "monitoring/status",
    "part_files",
    "server",
    "sessions",
    "supervisor",
)
_SUPERVISOR_MAY = (
    f"{' '.join(SUPERVISOR)} {_LEAVES} config protocol scheduler transport utils workers"
)
_WORKERS_MAY = f"{_LEAVES} {_MEASURES} config protocol scheduler transport utils"

# For the two ends, which hold real tensors.
_TENSORS = "random_numbers torch_settings transport/cuda transport/digests transport/tensors transport/trees"
_TENSORS_MAY = f"{_LEAVES} protocol transport utils {_TENSORS}"

# Module or folder, without .py → its row. The longest name that fits a file counts.
LAYERS = {
    "utils": _layer("", COMFY | SOCKETS),
    "luna_daemon/__init__": _layer("", TORCH | COMFY),
    "luna_daemon/__main__": _layer("", TORCH | COMFY),
    "luna_daemon/daemon_server": _layer("", TORCH | COMFY),
    "luna_daemon/package_alias": _layer("", TORCH | COMFY),
    "luna_daemon/comfyui_folder": _layer("errors", TORCH | COMFY | SOCKETS),
    "luna_daemon/errors": _layer("utils", TORCH | COMFY | SOCKETS),
    "luna_daemon/numerics": _layer("", TORCH | COMFY | SOCKETS),
    "luna_daemon/version": _layer("utils", TORCH | COMFY | SOCKETS),
    "luna_daemon/config": _layer(f"{_LEAVES} transport utils", TORCH | COMFY),
    "luna_daemon/config_sources": _layer(f"{_LEAVES} config utils", TORCH | COMFY | SOCKETS),
    "luna_daemon/protocol": _layer(f"{_LEAVES} utils", TORCH | COMFY | SOCKETS),
    "luna_daemon/transport": _layer(f"{_LEAVES} protocol utils", TORCH | COMFY),
    "luna_daemon/transport/digests": _layer(_TENSORS_MAY, COMFY),
    "luna_daemon/transport/tensors": _layer(_TENSORS_MAY, COMFY),
    "luna_daemon/transport/trees": _layer(_TENSORS_MAY, COMFY),
    "luna_daemon/transport/cuda": _layer(_TENSORS_MAY, COMFY),
    **{
        f"luna_daemon/{name}": _layer(_CLIENT_MAY, TORCH | COMFY, f"torch {_TENSORS}")
        for name in CLIENT
    },
    # For the two places where ComfyUI loads and patches weights: the worker, and ComfyUI's own process.
    "luna_daemon/lora_adapters": _layer("utils", SOCKETS),
    # What a call has around it, for the two ends.
    "luna_daemon/random_numbers": _layer("", COMFY | SOCKETS),
    "luna_daemon/torch_settings": _layer("", COMFY | SOCKETS),
    # It reads GGUF files, and who loads from one may want to take an encoder out of another file.
    "luna_daemon/encoders_inside": _layer("gguf_models utils", SOCKETS),
    "luna_daemon/gguf_models": _layer("encoders_inside utils", SOCKETS),
    "luna_daemon/proxy": _layer(
        f"{_LEAVES} client config encoders_inside gguf_models lora_adapters protocol utils {_TENSORS}",
        set(),
    ),
    "luna_daemon/scheduler": _layer(f"{_LEAVES} protocol utils", TORCH | COMFY | SOCKETS | THREADS),
    "luna_daemon/workers": _layer(_WORKERS_MAY, TORCH | COMFY),
    "luna_daemon/workers/loop": _layer(
        f"{_WORKERS_MAY} workers workers/residents", TORCH | COMFY, f"engines torch {_TENSORS}"
    ),
    "luna_daemon/workers/residents": _layer(_WORKERS_MAY, TORCH | COMFY, "engines"),
    # A call's arguments and results are trees, of which only the engine knows what they mean.
    "luna_daemon/engines": _layer(
        f"{_LEAVES} encoders_inside gguf_models lora_adapters protocol utils {_TENSORS}", SOCKETS
    ),
    **{f"luna_daemon/{name}": _layer(_SUPERVISOR_MAY, TORCH | COMFY) for name in SUPERVISOR},
    "luna_daemon/monitoring/__init__": _layer("", TORCH | COMFY | SOCKETS | THREADS),
    "luna_daemon/monitoring/metric_families": _layer("", TORCH | COMFY | SOCKETS | THREADS),
    "luna_daemon/monitoring/metrics": _layer(
        "monitoring/metric_families", TORCH | COMFY | SOCKETS | THREADS
    ),
    "luna_daemon/monitoring/exposition": _layer(
        "monitoring/metric_families monitoring/metrics", TORCH | COMFY | SOCKETS | THREADS
    ),
    "luna_daemon/monitoring/request_trace": _layer("", TORCH | COMFY | SOCKETS | THREADS),
    "luna_daemon/monitoring/status_tables": _layer("", TORCH | COMFY | SOCKETS | THREADS),
    "luna_daemon/main": _layer(
        f"{_SUPERVISOR_MAY} command_line config_sources", TORCH | COMFY, "client demo workers/loop"
    ),
    "luna_daemon/command_line": _layer(
        f"{_LEAVES} client config config_sources instance_lock monitoring/status_tables utils",
        TORCH | COMFY,
    ),
    # It compares the daemon's results with those of an engine in its own process.
    "luna_daemon/demo": _layer(f"{_SUPERVISOR_MAY} {_CLIENT_MAY} engines {_TENSORS}", COMFY),
    # Starts the daemon for other programs.
    "luna_daemon/launch": _layer(
        f"{_LEAVES} client config instance_lock transport utils", TORCH | COMFY
    ),
    "luna_daemon/monitoring/status_text": _layer("", TORCH | COMFY | SOCKETS | THREADS),
    # The proxies import ComfyUI's models with everything they need, so nodes load them when they are used.
    "nodes": _layer(
        f"{_LEAVES} client config config_sources encoders_inside gguf_models launch lora_adapters "
        "monitoring/status_text protocol utils",
        set(),
        "proxy",
    ),
}


@dataclass(frozen=True)
class Import:
    """One imported name, in parts.

    `ours`: imported relatively; `target` is then its place in our tree, of which the last part may be
    something inside a module.
    """

    target: tuple[str, ...]
    ours: bool
    line: int
    lazy: bool


def files_in(root: Path) -> list[Path]:
    """Return every Python file that the table covers."""
    return sorted(path for top in TOPS for path in (root / top).rglob("*.py"))


def module_of(path: Path, root: Path) -> str:
    """Return e.g. "utils/images/tiling" or "utils/__init__"."""
    return path.relative_to(root).with_suffix("").as_posix()


def layer_of(module: str) -> str:
    """Return the longest name in the table that fits, or "" when the module has no row of its own."""
    fits = [name for name in LAYERS if module == name or module.startswith(f"{name}/")]
    return max(fits, key=len, default="")


def violations(path: Path, root: Path) -> list[str]:
    """Return a sentence for each import in a file that the table forbids."""
    module = module_of(path, root)
    layer = layer_of(module)
    if not layer:
        return [f"{module}.py belongs to no layer; give it a row in tests/import_rules.py."]
    found = []
    for imported in imports_of(path, root):
        reason = _why_not(imported, layer, module)
        if reason:
            found.append(f"{module}.py:{imported.line}: {reason}")
    return found


def _why_not(imported: Import, layer: str, module: str) -> str:
    rule = LAYERS[layer]
    name = "/".join(imported.target) if imported.ours else ".".join(imported.target)
    if not imported.ours:
        if imported.target[0] in OURS_BY_ABSOLUTE_NAME:
            return f"imports {name} by its absolute name; import relatively"
        if imported.target[0] not in rule.never:
            return ""
        key = imported.target[0]
    else:
        key = layer_of(name) or name
        if key == layer or key in rule.may:
            return ""
    if key in rule.lazily:
        return (
            "" if imported.lazy else f"may import {name} only inside functions or for type checkers"
        )
    return f"{layer} must not import {name}"


def imports_of(path: Path, root: Path) -> list[Import]:
    """Return what a file imports, relative and absolute, also by `import_module("name")`."""
    package = path.relative_to(root).parent.parts
    tree = ast.parse(path.read_text("utf-8"))
    return list(_imports_below(tree, package, lazy=False))


def _imports_below(node: ast.AST, package: tuple[str, ...], *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for target, ours in _targets(child, package):
            yield Import(target, ours, getattr(child, "lineno", 0), lazy)
        yield from _imports_below(child, package, lazy=lazy or _is_lazy(child))


def _is_lazy(node: ast.AST) -> bool:
    """Tell whether importing the module does not run what is in this node."""
    if isinstance(node, ast.If):
        names = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        return ast.unparse(node.test) in names and not node.orelse
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


def _targets(node: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield tuple(alias.name.split(".")), False
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield tuple((node.module or "").split(".")), False
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1]
        base += tuple(node.module.split(".")) if node.module else ()
        for alias in node.names:
            yield (*base, alias.name), True
    elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
        name = node.args[0] if node.args else None
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            level = len(name.value) - len(name.value.lstrip("."))
            parts = tuple(name.value.lstrip(".").split("."))
            yield (*package[: len(package) - level + 1], *parts) if level else parts, bool(level)


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def loaded_by(modules: Iterable[str], root: Path) -> dict[str, str]:
    """Return what importing modules loads, all the way down: top-level name → the file that does it.

    Imports inside functions and for type checkers do not count; packages' __init__.py files on the
    way do.
    """
    loaded: dict[str, str] = {}
    waiting = list(modules)
    seen: set[str] = set()
    while waiting:
        module, path = _existing(waiting.pop(), root)
        if module in seen or path is None:
            continue
        seen.add(module)
        waiting += [f"{parent}/__init__" for parent in _parents(module)]
        for imported in imports_of(path, root):
            if imported.lazy:
                continue
            if imported.ours:
                waiting.append("/".join(imported.target))
            else:
                loaded.setdefault(imported.target[0], module_of(path, root))
    return loaded


def _existing(target: str, root: Path) -> tuple[str, Path | None]:
    """Return the module that an import of `target` loads, and its file: itself, or what it is in."""
    for module in (target, target.rpartition("/")[0]):
        for path in (root / f"{module}.py", root / module / "__init__.py"):
            if path.is_file():
                return module, path
    return target, None


def _parents(module: str) -> list[str]:
    parts = module.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def find_cycle(root: Path) -> list[str]:
    """Return modules that import each other in a ring when they are loaded; [] when there is no ring."""
    graph = {module_of(path, root): _loads(path, root) for path in files_in(root)}
    done: set[str] = set()

    def visit(module: str, above: list[str]) -> list[str]:
        if module in above:
            return [*above[above.index(module) :], module]
        if module in done:
            return []
        done.add(module)
        rings = (visit(other, [*above, module]) for other in sorted(graph.get(module, ())))
        return next(filter(None, rings), [])

    return next(filter(None, (visit(module, []) for module in graph)), [])


def _loads(path: Path, root: Path) -> set[str]:
    """Return our modules that a file imports when it is loaded. A package stands for its __init__.py."""
    loads = set()
    for imported in imports_of(path, root):
        if imported.ours and not imported.lazy:
            _, file = _existing("/".join(imported.target), root)
            if file is not None:
                loads.add(module_of(file, root))
    return loads
