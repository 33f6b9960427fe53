"""Files that often lie where a model should be, known by their first bytes."""

from __future__ import annotations

from ..errors import ModelFileError

_LFS_POINTER = b"version https://git-lfs"


def check_is_no_stand_in(name: str, begin: bytes) -> None:
    """Refuse a file that cannot be a model, by its first eight bytes or more, with what it is instead.

    Raises:
        ModelFileError: It is a pointer of Git LFS, or a web page.
    """
    begin = begin[:8]
    if begin == _LFS_POINTER[:8]:
        raise ModelFileError(
            f"'{name}' is only the pointer that Git LFS puts in place of a large file.",
            "Run 'git lfs pull' in its repository, or download the file itself.",
        )
    if begin.isascii() and begin.lstrip().startswith(b"<") and begin[-1]:
        raise ModelFileError(
            f"'{name}' is a web page, not a model: the download met an error or a login.",
            "Download it again.",
        )
