"""Which settings of ComfyUI the workers run with, and who may change them. Pure policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from .errors import IncompatibleError
from .numerics import differences, unknown_settings


class NumericsAgreement:
    """The settings of the first client hold until nobody needs them any more."""

    def __init__(self) -> None:
        self.current: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """A name of the settings, for keys of models."""
        return hashlib.sha256(repr(sorted(self.current.items())).encode()).hexdigest()[:16]

    def adopt(self, theirs: Mapping[str, str], *, held: bool) -> bool:
        """Agree with a client's settings; True when the workers must start again with them.

        Args:
            theirs: What the client's ComfyUI runs with; empty: it takes what there is.
            held: Do other clients hold models?

        Raises:
            IncompatibleError: Others need other settings, or nobody knows how to take these over.
        """
        if not theirs or dict(theirs) == self.current:
            return False
        unknown = unknown_settings(theirs)
        if unknown:
            raise IncompatibleError(
                f"This ComfyUI has settings that the daemon does not know: {', '.join(unknown)}.",
                "Update the older of the two and restart it.",
            )
        if held:
            differing = ", ".join(differences(theirs, self.current))
            raise IncompatibleError(
                f"The daemon's workers run with the settings of another ComfyUI, and this one has {differing}. "
                "Its results would differ.",
                "Start both with the same settings, close the other one first, use a daemon of its own on "
                "another port (setting port or LUNA_PORT), or set daemon_mode to force_local.",
            )
        self.current = dict(theirs)
        return True
