"""Where a node's models come from: this process or the daemon. Nodes never ask which."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol, TypeVar

from ..luna_daemon.errors import ConnectionLostError, DrainingError
from ..utils.errors import LunaError
from ..utils.log import get_logger
from ..utils.routing.choice import ClipPart, VaePart
from ..utils.weights.shelf import ModelFile

log = get_logger("nodes")
T = TypeVar("T")


class DaemonMode(str, Enum):
    """What a person chose."""

    AUTO = "auto"
    FORCE_DAEMON = "force_daemon"
    FORCE_LOCAL = "force_local"


class ModelSource(Protocol):
    """Gives models. What was done otherwise than asked is in `notes`.

    Attributes:
        notes: Sentences for the person at the screen.
    """

    notes: list[str]

    @property
    def label(self) -> str:
        """Where the model that was opened last came from, for the status."""

    def prepare(self) -> None:
        """Begin to get ready; returns at once."""

    def open_clip(self, part: ClipPart) -> Any:
        """Return a comfy.sd.CLIP."""

    def open_vae(self, part: VaePart) -> Any:
        """Return a comfy.sd.VAE."""

    def open_clip_vision(self, file: ModelFile) -> Any:
        """Return a comfy.clip_vision.ClipVisionModel."""


class AutoModels:
    """The daemon while it can be reached; from the first time that it cannot, this process.

    Only errors of the connection lead here: a daemon that answers and refuses is not passed over.

    Args:
        remote: The daemon's models.
        local: Those of this process.
        breaker_allows: May the daemon be tried now?
        cannot_be_remote: Errors which say that one model has to be local, and the others need not.
        on_fallback: Called when the daemon is not used because it cannot be reached.
    """

    def __init__(
        self,
        remote: ModelSource,
        local: ModelSource,
        breaker_allows: Callable[[], bool],
        cannot_be_remote: tuple[type[LunaError], ...] = (),
        on_fallback: Callable[[], None] = lambda: None,
    ) -> None:
        self.notes = remote.notes  # one list, to which both of us add
        self._remote = remote
        self._local = local
        self._cannot_be_remote = cannot_be_remote
        self._on_fallback = on_fallback
        self._opened_here = False  # the model that was opened last
        self._fell_back = not breaker_allows()
        if self._fell_back:
            on_fallback()
            self.notes.append("The daemon could not be reached a moment ago; models are local.")

    @property
    def label(self) -> str:
        """Where the model that was opened last came from; before the first, where it would."""
        if self._fell_back:
            return "local (fallback)"
        return (self._local if self._opened_here else self._remote).label

    def prepare(self) -> None:
        """Get the daemon ready."""
        if not self._fell_back:
            self._guarded(self._remote.prepare, lambda: None)

    def open_clip(self, part: ClipPart) -> Any:
        """Open text encoders."""
        return self._guarded(
            lambda: self._remote.open_clip(part), lambda: self._local.open_clip(part)
        )

    def open_vae(self, part: VaePart) -> Any:
        """Open a VAE."""
        return self._guarded(
            lambda: self._remote.open_vae(part), lambda: self._local.open_vae(part)
        )

    def open_clip_vision(self, file: ModelFile) -> Any:
        """Open an image encoder."""
        return self._guarded(
            lambda: self._remote.open_clip_vision(file),
            lambda: self._local.open_clip_vision(file),
        )

    def _guarded(self, remotely: Callable[[], T], locally: Callable[[], T]) -> T:
        if self._fell_back:
            return locally()
        try:
            self._opened_here = False
            return remotely()
        except (ConnectionLostError, DrainingError) as error:
            self._fell_back = True
            self._on_fallback()
            self._say(f"The daemon is not used in this run, models are local: {error}")
        except self._cannot_be_remote as error:
            self._opened_here = True
            self._say(f"Loaded in this process: {error}")
        return locally()

    def _say(self, text: str) -> None:
        if text in self.notes:  # of a checkpoint's text encoders, and now of its VAE
            return
        self.notes.append(text)
        log.warning("[Luna] %s", text)


def choose_source(mode: DaemonMode, workflow_id: str, model_type: str) -> ModelSource:
    """Return the source for a mode. Nothing is connected or started yet."""
    from .local_models import LocalModels

    return share_source(mode, workflow_id, model_type, LocalModels())


def share_source(
    mode: DaemonMode, workflow_id: str, model_type: str, local: ModelSource
) -> ModelSource:
    """Return the source for a mode, where `local` stands for this process."""
    if mode is DaemonMode.FORCE_LOCAL:
        return local
    from . import daemon_access
    from .daemon_models import RemoteModels, comeback

    if mode is DaemonMode.FORCE_DAEMON:
        return RemoteModels(workflow_id, model_type, "error")
    return AutoModels(
        RemoteModels(workflow_id, model_type, "local"),
        local,
        lambda: daemon_access.breaker.allows(time.monotonic()),
        _not_skeletons(),
        comeback().miss,
    )


def times_to_load_again() -> int:
    """Return a number for a loader's fingerprint: it grows when the daemon was lost or has come back."""
    from .daemon_models import comeback

    return comeback().count()


def _not_skeletons() -> tuple[type[LunaError], ...]:
    from ..luna_daemon.proxy.errors import NotASkeletonError

    return (NotASkeletonError,)
