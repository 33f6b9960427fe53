"""A file that a person may name, and nothing outside the folders it may lie in; and where links lead."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from .errors import InputError


def find_below(roots: Iterable[str | Path], name: str) -> Path:
    """Return the file of this name below the first root that has it, links followed.

    Raises:
        InputError: The name leads out of the roots, or none of them has the file.
    """
    for root in roots:
        folder = Path(root).resolve()
        file = (folder / name).resolve()
        if not file.is_relative_to(folder):
            raise InputError(
                f"'{name}' lies outside the folder '{folder.name}' that it has to be in.",
                "Choose a file of the list.",
            )
        if file.is_file():
            return file
    raise InputError(f"There is no file '{name}'.", "Reload the page, and choose again.")


def folders_elsewhere(roots: Collection[Path], files: Iterable[str | Path]) -> set[Path]:
    """Return the folders outside of `roots` that files really lie in, links followed."""
    folders = {Path(file).resolve().parent for file in files}
    return {folder for folder in folders if not any(folder.is_relative_to(r) for r in roots)}
