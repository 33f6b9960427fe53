"""Models that the daemon holds, behind ComfyUI's own objects."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths

from ..luna_daemon.errors import DaemonError, NotFoundError
from ..luna_daemon.launch import LAUNCHER
from ..utils.command_text import command_text
from ..utils.routing.choice import OTHER, ClipPart, VaePart
from ..utils.weights.shelf import ModelFile
from . import daemon_access
from .daemon_return import DaemonReturn
from .model_folders import model_roots

if TYPE_CHECKING:
    from ..luna_daemon.proxy.models import DaemonModels, Policy

ANY_CLIP_TYPE = "STABLE_DIFFUSION"  # a checkpoint says its own
# One workflow's claims are one object, however many nodes of it load models: what is not claimed with
# the rest would be given up. It lives as long as a proxy made with it.
_claims: weakref.WeakValueDictionary[str, DaemonModels] = weakref.WeakValueDictionary()
# Kept beyond the claims: ComfyUI lets go of a graph's models when another graph runs.
_notes: dict[str, list[str]] = {}
_MOST_NOTES = 20  # of a workflow, and so many workflows
_lock = threading.Lock()


def was_lost() -> bool:
    """Tell whether open models have found no daemon, since this was asked last."""
    with _lock:
        lost = [claims for claims in _claims.values() if claims.is_lost]
    for claims in lost:
        claims.is_lost = False
    return bool(lost)


@functools.cache
def comeback() -> DaemonReturn:
    """Return what tells loaders when to open their models in the daemon again."""
    return DaemonReturn(daemon_access.breaker, _answers, was_lost)


def _answers() -> bool:
    try:
        return daemon_access.launcher().answers()
    except DaemonError:
        return False  # what is wrong with it, a loader says when it runs


def notes_of_runs() -> list[str]:
    """Return what was done otherwise than asked with the daemon's models, since they were opened."""
    with _lock:
        return [note for notes in _notes.values() for note in notes]


def _note(workflow_id: str, text: str) -> None:
    with _lock:
        notes = _notes.setdefault(workflow_id, [])
        if text not in notes:
            notes.append(text)
            del notes[:-_MOST_NOTES]
        if len(_notes) > _MOST_NOTES:
            del _notes[next(iter(_notes))]


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

        with _folders_explained(part.files):
            return opening.open_clip(
                self._claims(),
                [file.path for file in part.files],
                part.clip_type or ANY_CLIP_TYPE,
                checkpoint=part.checkpoint,
                inside=part.inside,
                embedding_directory=folder_paths.get_folder_paths("embeddings"),
            )

    def open_vae(self, part: VaePart) -> Any:
        """Open a VAE."""
        from ..luna_daemon.proxy import opening

        with _folders_explained((part.file,)):
            return opening.open_vae(self._claims(), part.file.path, checkpoint=part.checkpoint)

    def open_clip_vision(self, file: ModelFile) -> Any:
        """Open an image encoder."""
        from ..luna_daemon.proxy import opening

        with _folders_explained((file,)):
            return opening.open_clip_vision(self._claims(), file.path)

    def _claims(self) -> DaemonModels:
        from ..luna_daemon.proxy.models import DaemonModels

        client = daemon_access.require()
        with _lock:
            claims = _claims.get(self._workflow_id)
            if claims is None:
                claims = DaemonModels(
                    client,
                    self._workflow_id,
                    self._model_type,
                    self._policy,
                    revive=daemon_access.require,
                    on_note=functools.partial(_note, self._workflow_id),
                )
                _claims[self._workflow_id] = claims
            elif (
                self._model_type != OTHER
            ):  # a router was changed; a loader of one part says nothing
                claims.model_type = self._model_type
            # What became of the models in a run, the status that it began with could not say.
            self.notes += [f"In an earlier run: {n}" for n in _notes.pop(self._workflow_id, ())]
            return claims


@contextlib.contextmanager
def _folders_explained(files: Sequence[ModelFile]) -> Iterator[None]:
    """Say what to do when the daemon may not read a file that is there.

    It reads what lies in the folders that it was started with. Those of a ComfyUI that has started it are
    among them; those of one that found it running need not be.
    """
    try:
        yield
    except NotFoundError as error:
        if not all(file.path.is_file() for file in files):
            raise
        folders = sorted({os.path.dirname(os.path.realpath(file.path)) for file in files})
        names = ", ".join(f"'{file.name}'" for file in files)
        raise NotFoundError(
            f"The Luna daemon that runs may not read {names}: {' and '.join(folders)} is in none of the "
            "model folders that it was started with.",
            f"Stop it ({_command('stop')}), and start one that may read all that is needed "
            f"({_command('--model-roots', os.pathsep.join(_roots_with(folders)))}), or set daemon_mode "
            "to force_local.",
        ) from error


def _roots_with(folders: Sequence[str]) -> list[str]:
    """Return this ComfyUI's model folders, and those of `folders` that are elsewhere."""
    roots = model_roots()
    elsewhere = [f for f in folders if not any(Path(f).is_relative_to(root) for root in roots)]
    return [*map(str, roots), *elsewhere]


def _command(*arguments: str) -> str:
    return command_text(sys.executable, LAUNCHER, *arguments)
