"""Names of files below a folder, as lists show them: "SDXL/model.safetensors".

A workflow that was saved on Windows has backslashes in them, one from elsewhere slashes.
"""

from __future__ import annotations

import os


class FileNames(list[str]):
    """A list of names, in which a name is also found with the other separator."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (
            isinstance(name, str)
            and any(super(FileNames, self).__contains__(s) for s in spellings(name))
        )


def spellings(name: str) -> tuple[str, ...]:
    """Return a name as it is, and with this system's separators where that is another."""
    other = name.replace("\\", "/").replace("/", os.sep)
    return tuple(dict.fromkeys((name, other)))
