"""Finds code of ComfyUI that another pack has replaced in this process.

Packs replace methods of ComfyUI's classes or functions of its modules ("monkey-patching"). Such a change
does not reach the daemon's process, whose results would silently lack it. It shows in the file that a
function's code comes from.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import sysconfig
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import torch

# Libraries that bring devices to torch put functions in place of its own, and do so in the daemon as well.
_BACKENDS = tuple(
    str(Path(torch.__file__).parent.parent / name)
    for name in ("intel_extension_for_pytorch", "torch_directml", "torch_npu", "torch_xla")
)
# Set on the classes that this package makes for single modules.
OWN_CLASS_MARK = "_luna_own_class"
_TORCH = str(Path(torch.__file__).parent)
_STDLIB = sysconfig.get_path("stdlib")
_LIBRARY_FOLDERS = ("site-packages", "dist-packages")


def _libraries() -> tuple[str, ...]:
    """Return where this Python has its libraries; the ones of a user or of a base environment, too."""
    own = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), _STDLIB, _TORCH}
    return tuple(own | {path for path in sys.path if Path(path).name in _LIBRARY_FOLDERS})


class ClassPatches:
    """Looks for replaced code.

    Args:
        package: The package to look into.
        also: Names of modules to look into beside those of the classes asked about.
        unused: Functions of modules that these classes do not come to, by module.
    """

    def __init__(
        self,
        package: ModuleType,
        also: Iterable[str] = (),
        unused: Mapping[str, Container[str]] | None = None,
    ) -> None:
        self._name = package.__name__
        folder = next(iter(package.__path__))  # `comfy` has no file of its own
        self._method_homes = (folder, _TORCH, _STDLIB)
        self._function_homes = (folder, *_libraries())
        self._also = tuple(also)
        self._unused = unused or {}
        self._innocent: dict[tuple[str, ...], set[str]] = {}

    def find(self, classes: Iterable[type]) -> str:
        """Return the name of a replaced method or function that objects of these classes use, or ""."""
        family = {base for cls in set(classes) for base in cls.__mro__}
        for cls in family:
            if OWN_CLASS_MARK in vars(cls) or not self._is_ours(cls.__module__, "torch"):
                continue
            for name, code in _codes(vars(cls)):
                if self._is_foreign(code, self._method_homes) and _takes_a_place(cls, name):
                    return f"{cls.__module__}.{cls.__qualname__}.{name}"
        return self._in_modules({cls.__module__ for cls in family} | set(self._also))

    def replaced(self, cls: type, names: Iterable[str]) -> str:
        """Return the name of a replaced method among those of one class, or ""."""
        methods = {name: vars(cls)[name] for name in names if name in vars(cls)}
        for name, code in _codes(methods):
            if self._is_foreign(code, self._method_homes):
                return f"{cls.__module__}.{cls.__qualname__}.{name}"
        return ""

    def replaced_function(self, functions: Mapping[str, Iterable[str]]) -> str:
        """Return the name of a replaced function among some of some modules, or ""."""
        for module_name, names in functions.items():
            module = sys.modules.get(module_name)
            found = {name: getattr(module, name) for name in names if hasattr(module, name)}
            for name, code in _codes(found):
                if self._is_foreign(code, self._function_homes):
                    return f"{module_name}.{name}"
        return ""

    def replaced_in_torch(self) -> str:
        """Return the name of a replaced function of torch that models compute with, or ""."""
        for module, names in _torch_functions():
            for name in names:
                function = getattr(module, name, None)
                if isinstance(function, BuiltinFunctionType) or function is None:
                    continue
                code = getattr(function, "__code__", None)
                if code is None or self._is_foreign(code, (*self._method_homes, *_BACKENDS)):
                    return f"{module.__name__}.{name}"
        return ""

    def _in_modules(self, names: Iterable[str]) -> str:
        for module_name in names:
            module = sys.modules.get(module_name)
            if module is None or not self._is_ours(module_name):
                continue
            unused = self._unused.get(module_name, ())
            for name, value in list(vars(module).items()):
                if not isinstance(value, FunctionType) or name in unused:
                    continue
                if self._is_foreign(value.__code__, self._function_homes):
                    return f"{module_name}.{name}"
        return ""

    def _is_ours(self, module: str, *others: str) -> bool:
        return module.partition(".")[0] in (self._name, *others)

    def _is_foreign(self, code: CodeType, homes: tuple[str, ...]) -> bool:
        innocent = self._innocent.setdefault(homes, set())
        file = code.co_filename
        if file in innocent:
            return False
        # "<string>": made by the standard library, for named tuples and data classes.
        if file.startswith(("<", *homes)) or str(Path(file).resolve()).startswith(
            tuple(str(Path(home).resolve()) for home in homes)
        ):
            innocent.add(file)
            return False
        return True


@functools.cache
def _torch_functions() -> tuple[tuple[ModuleType, tuple[str, ...]], ...]:
    """Return the functions that compute, by module: those of torch's own code, whatever they are now."""
    functional = torch.nn.functional
    source = inspect.getsource(functional)
    written = re.findall(r"^(?:def )?([a-z]\w*)(?: = |\()", source, re.M)
    of_nn = {*written, *dir(torch._C._nn)} - {"has_torch_function"}
    of_torch = {name for name in dir(torch._C._VariableFunctions) if name[0] != "_"}
    return (
        (functional, tuple(sorted(name for name in of_nn if callable(vars(functional).get(name))))),
        (torch, tuple(sorted(of_torch))),
    )


def _takes_a_place(cls: type, name: str) -> bool:
    """Does a method stand where one stood before? One that was only added, nobody's own code calls.

    The library `transformers`, for one, adds a method to torch's Module.
    """
    return any(name in vars(base) for base in cls.__mro__[1:]) or _is_written_in(cls, name)


@functools.lru_cache(maxsize=1024)  # to read the source of torch's Module takes 50 ms
def _is_written_in(cls: type, name: str) -> bool:
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):  # it cannot be known
        return True
    return re.search(rf"^\s+(async )?(def )?{re.escape(name)}\s*[(:=]", source, re.M) is not None


def _codes(members: Any) -> Iterator[tuple[str, CodeType]]:
    for name, member in list(members.items()):
        function = member.fget if isinstance(member, property) else member
        function = getattr(function, "__func__", function)  # class and static methods
        if isinstance(function, FunctionType):
            yield name, function.__code__
