"""Files that are there as a whole or as they were."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from .errors import InputError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place, and then put it there. Folders are made.

    Raises:
        InputError: It cannot be written.
    """
    # Not the tempfile module, whose files only their owner may read.
    beside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                file.write(data)
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        raise InputError(
            f"'{path}' cannot be written: {error.strerror or error}.",
            "Check the folder's permissions and the space on the disk.",
        ) from error
