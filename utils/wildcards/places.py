"""Which folders a name of a folder means, and none outside those that are meant for wildcards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError


def chosen_folders(roots: Sequence[str | Path], name: str) -> tuple[Path, ...]:
    """Return the folders to read, links followed.

    Args:
        roots: All folders for wildcards.
        name: Empty for all of them; else one of them, or a folder below, with or without its beginning.

    Raises:
        InputError: It is none of these, or it is not there.
    """
    folders = tuple(Path(os.path.realpath(root)) for root in roots)
    if not name.strip():
        return folders
    for folder in folders:
        chosen = Path(os.path.realpath(folder / name.strip()))
        if chosen.is_dir() and chosen.is_relative_to(folder):
            return (chosen,)
    listed = ", ".join(f"'{folder}'" for folder in folders)
    raise InputError(
        f"'{name}' is no folder for wildcards. These are: {listed}, and what lies below.",
        "Leave the path empty for all of them, or add a folder as 'wildcards' to extra_model_paths.yaml.",
    )
