"""Models that the daemon holds, behind ComfyUI's own objects."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

import folder_paths

from ..utils.routing.choice import ClipPart, VaePart
from ..utils.weights.shelf import ModelFile
from . import daemon_access

if TYPE_CHECKING:
    from ..luna_daemon.proxy.models import DaemonModels, Policy

ANY_CLIP_TYPE = "STABLE_DIFFUSION"  # a checkpoint says its own
# One workflow's claims are one object, however many nodes of it load models: what is not claimed with
# the rest would be given up. It lives as long as a proxy made with it.
_claims: weakref.WeakValueDictionary[str, DaemonModels] = weakref.WeakValueDictionary()
_claims_lock = threading.Lock()


class RemoteModels:
    """Text encoders, VAEs and image encoders in the daemon.

    Args:
        workflow_id: The graph that needs them.
        model_type: Its family.
        policy: What becomes of edits that cannot be made from afar: "error" or "local".
    """

    label = "daemon"

    def __init__(self, workflow_id: str, model_type: str, policy: Policy) -> None:
        self.notes: list[str] = []
        # Nodes of one graph share their claims; those that may load here and those that may not do not.
        self._workflow_id = workflow_id if policy == "local" else f"{workflow_id} forced"
        self._model_type = model_type
        self._policy = policy

    def prepare(self) -> None:
        """Begin to start the daemon, while other things are loaded."""
        daemon_access.prepare()

    def open_clip(self, part: ClipPart) -> Any:
        """Open text encoders."""
        from ..luna_daemon.proxy import opening

        return opening.open_clip(
            self._claims(),
            [file.path for file in part.files],
            part.clip_type or ANY_CLIP_TYPE,
            checkpoint=part.checkpoint,
            embedding_directory=folder_paths.get_folder_paths("embeddings"),
        )

    def open_vae(self, part: VaePart) -> Any:
        """Open a VAE."""
        from ..luna_daemon.proxy import opening

        return opening.open_vae(self._claims(), part.file.path, checkpoint=part.checkpoint)

    def open_clip_vision(self, file: ModelFile) -> Any:
        """Open an image encoder."""
        from ..luna_daemon.proxy import opening

        return opening.open_clip_vision(self._claims(), file.path)

    def _claims(self) -> DaemonModels:
        from ..luna_daemon.proxy.models import DaemonModels

        client = daemon_access.require()
        with _claims_lock:
            claims = _claims.get(self._workflow_id)
            if claims is None:
                claims = DaemonModels(
                    client,
                    self._workflow_id,
                    self._model_type,
                    self._policy,
                    revive=daemon_access.require,
                )
                _claims[self._workflow_id] = claims
            return claims
