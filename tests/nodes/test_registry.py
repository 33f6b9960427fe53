"""The registry on packages of its own: one broken file never hides the others."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from luna_collection.nodes.registry import discover

GOOD = """
    class {name}:
        @classmethod
        def GET_SCHEMA(cls):
            from types import SimpleNamespace
            return SimpleNamespace(node_id="{name}")

    NODES = [{name}]
"""
BAD_SCHEMA = """
    class Bad:
        @classmethod
        def GET_SCHEMA(cls):
            raise ValueError("two inputs are called 'a'")

    class Fine(Bad):
        @classmethod
        def GET_SCHEMA(cls):
            from types import SimpleNamespace
            return SimpleNamespace(node_id="Fine")

    NODES = [Bad, Fine]
"""
Build = Callable[[dict[str, str]], ModuleType]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Return a function that makes a package of files and imports it."""
    name = "planted_nodes"
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(files: dict[str, str]) -> ModuleType:
        for file, text in {"__init__.py": "", **files}.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(textwrap.dedent(text), "utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield make
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]


def ids(found) -> list[str]:
    return [node.__name__ for node in found.nodes]


def test_nodes_are_found_here_and_in_folders_and_nothing_else_is_imported(build):
    found = discover(
        build(
            {
                "luna_a.py": GOOD.format(name="A"),
                "loaders/luna_b.py": GOOD.format(name="B"),
                "loaders/other.py": "raise AssertionError('not a node file')",
                "web_routes/status.py": "raise AssertionError('not a node file')",
            }
        )
    )
    assert (ids(found), found.missing) == (["B", "A"], ())
    assert found.summary() == "2 nodes loaded"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import a_pack_that_is_not_there", "needs 'a_pack_that_is_not_there'"),
        ("raise RuntimeError('no GPU\\nhere')", "RuntimeError: no GPU here"),
        ("NODES = [", "SyntaxError"),
        ("nothing = 1", "AttributeError"),
        ("raise ValueError", "ValueError"),
    ],
)
def test_a_broken_file_is_named_and_hides_nothing(build, text, reason):
    found = discover(
        build(
            {
                "luna_a.py": GOOD.format(name="A"),
                "x/luna_b.py": text,
                "x/luna_c.py": GOOD.format(name="C"),
            }
        )
    )
    assert ids(found) == ["A", "C"] or ids(found) == ["C", "A"]
    (missing,) = found.missing
    assert missing.name == "luna_b"
    assert reason in missing.reason
    assert found.summary().startswith("2 nodes loaded, 1 unavailable (luna_b: ")
    assert "\n" not in found.summary()


def test_a_node_with_a_bad_schema_takes_no_other_with_it(build):
    found = discover(build({"luna_a.py": BAD_SCHEMA}))
    assert ids(found) == ["Fine"]
    assert found.missing[0].name == "luna_a.Bad"
    assert found.missing[0].reason == "ValueError: two inputs are called 'a'"


def test_of_two_nodes_with_one_id_the_second_is_left_out(build):
    found = discover(
        build({"luna_a.py": GOOD.format(name="A"), "luna_b.py": GOOD.format(name="A")})
    )
    assert len(found.nodes) == 1
    assert found.missing[0].reason == "luna_a has a node of the same id"
