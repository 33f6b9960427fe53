"""What can go wrong on ComfyUI's side of a model that the daemon holds.

Errors of the daemon itself (luna_daemon/errors.py) pass through the proxies as they are, but for two that
ComfyUI's code and nodes expect and handle.
"""

from __future__ import annotations

import torch

from ...utils.errors import LunaError
from ..errors import BadRequestError, OutOfMemoryError

REMEDY = "Set daemon_mode to force_local on the node that loads this model."


class NotASkeletonError(LunaError):
    """A model cannot be held by the daemon in this way; whoever asked loads it here instead."""


class EditNotSharedError(LunaError):
    """A node did something to a model that only works where the weights are.

    Args:
        what: What was done, and to which part, as a sentence.
        hint: What to do; default: to load the model here.
    """

    def __init__(self, what: str, hint: str = REMEDY) -> None:
        super().__init__(what, hint)


class DaemonGoneError(EditNotSharedError):
    """The daemon was lost in the middle of a graph, and the policy allows to go on without it."""


class WeightsElsewhereError(EditNotSharedError):
    """A node used the values of a weight that the daemon holds."""


class CannotPickleError(LunaError, TypeError):
    """A proxy was to be pickled; a TypeError is what callers of pickle expect."""


class MemoryEndedThereError(OutOfMemoryError, torch.OutOfMemoryError):
    """The daemon's device has no room: ComfyUI's code, and some nodes, then go on in smaller pieces."""


class FailedThereError(BadRequestError, RuntimeError):
    """ComfyUI's code failed in the daemon, as it would have here, mostly with a RuntimeError of torch."""
