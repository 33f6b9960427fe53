"""One workflow's claims on models of the daemon, and its calls of them.

A claim lasts as long as the proxies that it was made for. They end as garbage, at a moment when nothing
may be sent: so a thread of its own tells the daemon.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Literal

import torch

from ...utils.log import get_logger
from ..client import DaemonClient
from ..errors import DaemonError, RejectedError
from ..protocol.messages import ModelPart
from ..protocol.work import CallModel, FetchWeights
from .digests import Digests
from .numerics import current_numerics
from .progress import progress_bar

log = get_logger("proxy")
Policy = Literal["error", "local"]
Stamps = list[tuple[str, int, int]]
# Of one message; what does not fit follows with the next one.
UPLOAD_TENSORS = 512
UPLOAD_BYTES = 256 * 1024**2

_RELEASES_TIMEOUT_S = 10.0

# What is to be done about proxies that are garbage.
_releases: SimpleQueue[Callable[[], object]] = SimpleQueue()
_releaser: threading.Thread | None = None
_releaser_lock = threading.Lock()


class DaemonModels:
    """The models that one workflow has in the daemon. Thread-safe.

    Args:
        client: The connection.
        workflow_id: Name of the workflow.
        model_type: Its family, such as "SDXL"; shown in the daemon's status.
        policy: What happens when a node does something to a model that cannot be done from afar:
            "error" refuses with a sentence; "local" loads the model into this process and goes on.
        revive: Starts a daemon that has ended, before the next call; only for the policy "error", since
            under the other one such models are local by then.
        on_note: Told what the person at the screen should know.
    """

    def __init__(  # noqa: PLR0913  (choices by keyword, of a public constructor)
        self,
        client: DaemonClient,
        workflow_id: str,
        model_type: str,
        policy: Policy = "error",
        revive: Callable[[], object] | None = None,
        on_note: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.client = client
        self.workflow_id = workflow_id
        self.model_type = model_type
        self.policy: Policy = policy
        self.is_lost = False  # has a call found no daemon?
        self._revive = revive if policy == "error" else None
        self.digests = Digests()
        self._parts: dict[str, ModelPart] = {}
        self._stamps: dict[str, Stamps] = {}  # of each part's files, when it was claimed
        self._holders: dict[str, int] = {}
        self._known_patch_sets: set[str] = set()
        self.note = on_note
        self._lock = threading.RLock()

    def claim(self, role: str, part: ModelPart) -> str:
        """Claim a model beside those already claimed, and return its key.

        Raises:
            IncompatibleError: The daemon's workers run with other settings than this ComfyUI.
            NotFoundError: A file is not there.
            BadRequestError: A file is damaged or of another kind.
            RejectedError: There is no room for it, not even without the models of graphs that are over.
            DaemonUnreachableError: No daemon answers.
        """
        try:
            return self._claim(role, part)
        except RejectedError:
            _end_unused_claims()
            return self._claim(role, part)

    def _claim(self, role: str, part: ModelPart) -> str:
        with self._lock:
            stamps = stamps_of(part.files)
            keys = self._register({**self._usable_parts(), role: part})
            self._parts[role], self._stamps[role] = part, stamps
            self._holders[role] = self._holders.get(role, 0) + 1
            return keys[role]

    def release_with(self, holder: object, role: str) -> Callable[[], object]:
        """Give a claim up when `holder` is garbage, or when what is returned is called."""
        _start_releaser()
        # It keeps us alive until the daemon is told: holder and claims are often garbage together.
        end = weakref.finalize(holder, _releases.put, functools.partial(self._give_up, role))
        end.atexit = False
        return end

    def call(
        self, work: CallModel | FetchWeights, tensors: Sequence[torch.Tensor]
    ) -> tuple[Any, list[torch.Tensor]]:
        """Let the daemon do something with a claimed model; return the result and its tensors."""
        # ComfyUI keeps what a loader gave, also when the daemon ends: nobody else would start it again.
        if self._revive is not None and not self.client.is_connected:
            self._revive()
        done, received = self.client.call(
            self.workflow_id, work, tensors, on_progress=progress_bar()
        )
        for text in done.notes:
            self.note(text)
        return done.result, received

    def roles(self) -> tuple[str, ...]:
        """Return what is claimed now."""
        with self._lock:
            return tuple(self._parts)

    def knows(self, patch_set: str) -> bool:
        """Tell whether the daemon was sent a patch set before; it may have forgotten it since."""
        return patch_set in self._known_patch_sets

    def remember(self, patch_set: str) -> None:
        """Note that the daemon has a patch set now."""
        self._known_patch_sets.add(patch_set)

    def _register(self, parts: dict[str, ModelPart]) -> dict[str, str]:
        return self.client.claim(self.workflow_id, self.model_type, parts, current_numerics())

    def _give_up(self, role: str) -> None:
        try:
            self._release(role)
        except DaemonError as error:
            # Its claims end with the connection, too.
            log.info("the daemon could not be told that '%s' is no longer needed: %s", role, error)

    def _release(self, role: str) -> None:
        with self._lock:
            self._holders[role] -= 1
            if self._holders[role]:
                return
            del self._holders[role], self._parts[role], self._stamps[role]
            usable = self._usable_parts()
            if usable:
                self._register(usable)
            else:
                self.client.release(self.workflow_id)

    def _usable_parts(self) -> dict[str, ModelPart]:
        """Return what is claimed, without models whose files were changed or removed since.

        Their proxies work no more. ComfyUI keeps those beyond the run that replaces them, and the daemon
        would refuse all the models of a workflow that names a missing file.
        """
        return {
            role: part
            for role, part in self._parts.items()
            if stamps_of(part.files) == self._stamps[role]
        }


def stamps_of(files: Sequence[str]) -> Stamps:
    """Return what tells whether files are still the same: size and time, zero for a missing one."""
    stamps = []
    for file in files:
        try:
            status = os.stat(file)
        except OSError:
            stamps.append((file, 0, 0))
        else:
            stamps.append((file, status.st_size, status.st_mtime_ns))
    return stamps


def _end_unused_claims() -> None:
    """End the claims of proxies that nothing uses any more, as far as that can be known now.

    ComfyUI keeps the outputs of a graph that is over until a node of the next one has run, and collects
    garbage seconds later still. So the next graph may ask for room that only they take.
    """
    memory = sys.modules.get("comfy.memory_management")  # since ComfyUI 0.12
    release = getattr(memory, "extra_ram_release", None)
    if release is not None:
        # So much is never free: it lets go of every graph but the one that runs.
        release(sys.maxsize)
    gc.collect()
    told = threading.Event()
    _start_releaser()
    _releases.put(told.set)
    told.wait(_RELEASES_TIMEOUT_S)


def _start_releaser() -> None:
    global _releaser
    with _releaser_lock:
        if _releaser is None or not _releaser.is_alive():  # a forked child has the object only
            _releaser = threading.Thread(target=_release_forever, name="luna-release", daemon=True)
            _releaser.start()


def _release_forever() -> None:
    while True:
        _releases.get()()
