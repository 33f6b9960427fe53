"""The supervisor's hold on weights that the workers of a device share (engines/weight_image.py).

It makes an empty memfd for each model, hands it to every worker that loads the model, and keeps it while
the model is in use, so that also a worker that takes the place of a dead one finds the weights there. It
never maps one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

if sys.platform == "linux":
    import fcntl


def can_share_weights(device: str) -> bool:
    """Can workers of a device share weights? Those of a GPU have copies in its memory."""
    return device == "cpu" and sys.platform == "linux" and hasattr(os, "memfd_create")


class WeightImages:
    """Model key → memfd."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._fds

    def fd_for(self, key: str) -> int:
        """Return the image of a model, a new one when there is none that has been completed."""
        if key in self._fds and not _is_sealed(self._fds[key]):
            self.drop(key)  # whoever wrote it has died over it
        if key not in self._fds:
            self._fds[key] = os.memfd_create("luna-weights", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        return self._fds[key]

    def keep(self, is_wanted: Callable[[str], bool]) -> None:
        """Give up the images of all models that are not wanted any more."""
        for key in [key for key in self._fds if not is_wanted(key)]:
            self.drop(key)

    def drop(self, key: str) -> None:
        """Give up an image; its memory lives on in workers that use it."""
        fd = self._fds.pop(key, None)
        if fd is not None:
            os.close(fd)


def _is_sealed(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)
