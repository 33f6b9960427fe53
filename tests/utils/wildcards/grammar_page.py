"""The examples of docs/wildcards.md, and the folder that they are about."""

from __future__ import annotations

import re
from pathlib import Path

from luna_collection.utils.wildcards import DIALECTS, LUNA

PAGE = Path(__file__).resolve().parents[3] / "docs" / "wildcards.md"
FILE = re.compile(r"^`([\w/]+\.\w+)`\n\n```\w*\n(.*?)```$", re.MULTILINE | re.DOTALL)


def rows() -> list[tuple[str, str, str]]:
    """Return (text, dialect, outcomes) of every cell that is an example."""
    found: list[tuple[str, str, str]] = []
    columns: list[str] = []
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] if line[:1] == "|" else []
        if cells and cells[0] == "text":
            columns = cells
        elif cells and cells[0].startswith("`"):
            text = unwritten(cells[0].strip("`"))
            for column, cell in zip(columns, cells, strict=True):
                if column == "can become" or column in DIALECTS:
                    found.append((text, column if column in DIALECTS else LUNA.name, cell))
    return found


def unwritten(text: str) -> str:
    """Return a text as it is meant, for one as a table has it."""
    return text.replace("\\|", "|").replace("⏎", "\n")


def files() -> list[tuple[str, str]]:
    """Return (name, content) of every file."""
    return FILE.findall(PAGE.read_text("utf-8"))


def write_files(folder: Path) -> None:
    """Make the folder."""
    for name, content in files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, "utf-8")
