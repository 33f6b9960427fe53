"""Replaced code of a package is found by the file it comes from."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from luna_collection.luna_daemon.proxy.class_patches import ClassPatches

SOURCE = """
import collections, contextlib, dataclasses, functools, textwrap
import torch

Point = collections.namedtuple("Point", "x y")

def helper():
    return 1

@dataclasses.dataclass
class Options:
    size: int = 1

class Layer(torch.nn.Module):
    @property
    def size(self):
        return 1
    @staticmethod
    def make():
        return Layer()
    @torch.no_grad()
    def forward(self, x):
        return x
    @contextlib.contextmanager
    def held(self):
        yield
    @functools.lru_cache
    def kept(self):
        return 1
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return a package that is looked after, without a file of its own as `comfy` is."""
    (tmp_path / "lookedafter").mkdir()
    (tmp_path / "lookedafter" / "layers.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("lookedafter.layers")
    for name in [name for name in sys.modules if name.startswith("lookedafter")]:
        del sys.modules[name]


@pytest.fixture
def patches(package: ModuleType) -> ClassPatches:
    return ClassPatches(sys.modules["lookedafter"])


def test_code_as_it_was_written_is_no_find(package, patches):
    assert patches.find([package.Layer, torch.nn.Linear]) == ""
    assert patches.replaced(package.Layer, ["forward", "absent"]) == ""


@pytest.mark.parametrize("name", ["forward", "make", "held", "size"])
def test_a_replaced_method(package, patches, name):
    replacement = property(lambda _: 2) if name == "size" else (lambda *_: 2)
    setattr(package.Layer, name, replacement)
    assert patches.find([package.Layer]) == f"lookedafter.layers.Layer.{name}"
    assert patches.replaced(package.Layer, [name]) == f"lookedafter.layers.Layer.{name}"


def test_a_wrapper_that_looks_like_the_method(package, patches):
    stock = package.Layer.forward
    package.Layer.forward = functools.wraps(stock)(lambda *args: stock(*args))
    assert patches.find([package.Layer]).endswith("Layer.forward")


def test_a_replaced_function_of_the_module(package, patches):
    package.helper = lambda: 2
    assert patches.find([package.Layer]) == "lookedafter.layers.helper"


def test_a_replaced_method_of_torch(package, patches, monkeypatch):
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda *_: None)
    assert patches.find([torch.nn.Linear]) == "torch.nn.modules.linear.Linear.forward"


def test_a_method_that_is_only_added_is_harmless(package, patches, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "added_by_a_library", lambda *_: None, raising=False)
    package.Layer.added_by_a_pack = lambda *_: None
    assert patches.find([package.Layer]) == ""


def test_the_source_of_a_class_is_read_once_and_not_before_each_call(package, patches, monkeypatch):
    read = []
    stock = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda cls: read.append(cls) or stock(cls))
    package.Layer.added_by_another_pack = lambda *_: None
    for _ in range(3):
        assert patches.find([package.Layer]) == ""
    assert read.count(package.Layer) == 1


def test_an_added_method_that_hides_an_inherited_one_is_found(package, patches):
    package.Layer.__call__ = lambda *_: None
    assert patches.find([package.Layer]) == "lookedafter.layers.Layer.__call__"


def test_classes_of_others_are_their_own_affair(patches):
    class Foreign(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    assert patches.find([Foreign]) == ""


def test_a_replaced_function_among_named_ones(package, patches):
    functions = {"lookedafter.layers": ["helper", "absent"], "lookedafter.absent": ["helper"]}
    assert patches.replaced_function(functions) == ""
    package.other = lambda: 2
    assert patches.replaced_function(functions) == ""
    package.helper = lambda: 2
    assert patches.replaced_function(functions) == "lookedafter.layers.helper"


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages", "packs"])
def test_functions_of_libraries_in_another_environment(package, tmp_path, monkeypatch, folder):
    library = tmp_path / folder
    library.mkdir()
    (library / f"from_{folder[:4]}.py").write_text("def helper():\n    return 2\n")
    monkeypatch.syspath_prepend(library)
    package.helper = importlib.import_module(f"from_{folder[:4]}").helper
    found = ClassPatches(sys.modules["lookedafter"]).find([package.Layer])
    assert found == ("lookedafter.layers.helper" if folder == "packs" else "")
    del sys.modules[f"from_{folder[:4]}"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [(torch.nn.functional, "conv2d"), (torch.nn.functional, "interpolate"), (torch, "matmul")],
)
def test_replaced_functions_of_torch_are_found(package, monkeypatch, owner, name):
    import lookedafter

    patches = ClassPatches(lookedafter)
    assert patches.replaced_in_torch() == ""
    usual = getattr(owner, name)
    for replacement in (lambda *args: usual(*args), functools.partial(usual)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, replacement)
            assert patches.replaced_in_torch() == f"{owner.__name__}.{name}"
    monkeypatch.setattr(torch, "load", lambda *args: None)  # is not computed with
    assert patches.replaced_in_torch() == ""
