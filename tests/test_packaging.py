"""pyproject.toml says what is in the tree and what requirements.txt says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it along on Python 3.10

PACKAGE = "luna_collection"
TOPS = ("luna_daemon", "nodes", "utils")


@pytest.fixture(scope="module")
def pyproject(root: Path) -> dict:
    """The parsed pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))


def packages_in(root: Path) -> set[str]:
    """Return the package names of all folders that hold Python files."""
    folders = {path.parent for top in TOPS for path in (root / top).rglob("*.py")}
    return {".".join((PACKAGE, *folder.relative_to(root).parts)) for folder in folders} | {PACKAGE}


def test_every_folder_with_code_is_a_listed_package(root, pyproject):
    listed = pyproject["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages_in(root))


def test_every_package_has_an_init_file(root, pyproject):
    folders = [
        root.joinpath(*name.split(".")[1:]) for name in pyproject["tool"]["setuptools"]["packages"]
    ]
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_comfyui_users_and_pip_users_get_the_same_requirements(root, pyproject):
    lines = (root / "requirements.txt").read_text("utf-8").splitlines()
    required = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    assert required == pyproject["project"]["dependencies"]


def test_the_checkers_have_exact_versions(pyproject):
    loose = [
        line for line in pyproject["project"]["optional-dependencies"]["dev"] if "==" not in line
    ]
    assert loose == []


def test_comfyui_gets_the_web_folder_from_one_place_only(pyproject):
    assert "web" not in pyproject["tool"]["comfy"]


def test_the_python_that_is_required_is_the_one_that_luna_py_asks_for(root, pyproject):
    assert pyproject["project"]["requires-python"] == ">=3.10"
    assert "sys.version_info < (3, 10)" in (root / "luna.py").read_text("utf-8")
