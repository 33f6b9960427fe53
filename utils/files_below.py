"""Files and folders that a person may name, and nothing outside the folders they may lie in; and where links lead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from .errors import InputError


def find_below(roots: Iterable[str | Path], name: str) -> Path:
    """Return the file of this name below the first root that has it, links followed.

    Raises:
        InputError: The name leads out of the roots, or none of them has the file.
    """
    outside = ""
    for root in roots:
        folder = Path(root).resolve()
        file = (folder / name).resolve()
        if not file.is_relative_to(folder):
            outside = outside or folder.name  # a whole path may lie below a later root
        elif file.is_file():
            return file
    if outside:
        raise InputError(
            f"'{name}' lies outside the folder '{outside}' that it has to be in.",
            "Choose a file of the list.",
        )
    raise InputError(f"There is no file '{name}'.", "Reload the page, and choose again.")


def folders_elsewhere(roots: Collection[Path], files: Iterable[str | Path]) -> set[Path]:
    """Return the folders outside of `roots` that files really lie in, links followed."""
    folders = {Path(file).resolve().parent for file in files}
    return {folder for folder in folders if not any(folder.is_relative_to(r) for r in roots)}


def folder_below(roots: Sequence[str | Path], name: str, kind: str) -> Path:
    """Return a folder that is there: one of the roots, or below one of them, links followed.

    Args:
        roots: Where it may lie.
        name: Its path, whole or from one of the roots; empty: the first root.
        kind: What the roots are called in extra_model_paths.yaml.

    Raises:
        InputError: There is no such folder below the roots.
    """
    folders = [Path(root).resolve() for root in roots]
    for folder in folders:
        chosen = (folder / name.strip()).resolve()
        if chosen.is_relative_to(folder) and chosen.is_dir():
            return chosen
    listed = ", ".join(f"'{folder}'" for folder in folders)
    raise InputError(
        f"'{name}' is no folder below these: {listed}.",
        f"Write its path from there. To allow another folder, add it as '{kind}' to extra_model_paths.yaml.",
    )


def place_below(root: str | Path, name: str) -> Path:
    """Return the path of a file or folder below a root, which need not be there yet.

    Raises:
        InputError: The name leads out of the root.
    """
    folder = Path(root).resolve()
    place = (folder / name.strip()).resolve()
    if not place.is_relative_to(folder):
        raise InputError(
            f"'{name}' leads out of '{folder}'.", "Write a path that begins there, without '..'."
        )
    return place
