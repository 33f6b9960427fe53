"""Folders of wildcards to measure with, and the texts that use them."""

from __future__ import annotations

import os
import time
from pathlib import Path

LINES = 10_000
FILES, FOLDERS = 100_000, 1000
YAML_VALUES = 500
_OLD_S = 3600  # files of this age have settled: nobody has to look at them again

# What it is called → (text, whether it has goals).
TEXTS = {
    "one flat list": ("a photo of __flat0__", True),
    "four flat lists": ("__flat0__, __flat1__, __flat2__, __flat3__", True),
    "a nested list": ("a photo of __nested__", True),
    "choices": ("a {red|green|blue} {cat|dog} {sitting|standing|{running|jumping}}", False),
    "two YAML lists": ("__clothing/tops__ and __clothing/pants__", False),
}


def make_library(folder: Path) -> Path:
    """Make lists of 10 000 lines, plain and with names and choices in them; return their folder."""
    library = folder / "wildcards"
    if library.is_dir():
        return library
    library.mkdir(parents=True)
    for number in range(4):
        lines = [f"thing {line} of list {number}, with some detail" for line in range(LINES)]
        _write(library / f"flat{number}.txt", "\n".join(lines))
    nested = [f"a {{big|small}} thing {line}, __flat{line % 4}__" for line in range(LINES)]
    _write(library / "nested.txt", "\n".join(nested))
    lists = {
        name: "".join(f"    - {name} {value}\n" for value in range(YAML_VALUES))
        for name in ("tops", "pants")
    }
    text = "clothing:\n" + "".join(f"  {name}:\n{values}" for name, values in lists.items())
    _write(library / "clothing.yaml", text)
    settle(library)
    return library


def make_tree(folder: Path) -> Path:
    """Make 100 000 small files in 1000 folders; return the folder above them."""
    tree = folder / "tree"
    if tree.is_dir():
        return tree
    for number in range(FOLDERS):
        below = tree / f"group{number:04d}"
        below.mkdir(parents=True)
        for file in range(FILES // FOLDERS):
            (below / f"list{number:04d}_{file:03d}.txt").write_bytes(b"red\ngreen\nblue\n")
        settle(below)
    settle(tree)
    return tree


def settle(folder: Path) -> None:
    """Make a folder and what is in it look old."""
    then = time.time() - _OLD_S
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", "utf-8")
