"""What all proxies of one model share: whose weights it has, what would now be in it, how it is called.

ComfyUI's objects are many (a CLIP and its clones, copies of a VAE, their patchers); the module tree and
this are one. It hangs at the tree's root.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.utils
import msgspec
import torch
from comfy.model_patcher import ModelPatcher

from ...utils.model_types import ModelKind
from ..errors import (
    BadRequestError,
    ConnectionLostError,
    DrainingError,
    NotFoundError,
    OutOfMemoryError,
)
from ..protocol.messages import ModelPart
from ..protocol.work import CallModel, Needed, Returned
from ..random_numbers import current_states, set_states
from ..torch_settings import Settings, current_settings, has_autocast
from ..transport.trees import dump_tree, load_tree
from . import foreign_code
from .errors import (
    DaemonGoneError,
    EditNotSharedError,
    FailedThereError,
    MemoryEndedThereError,
)
from .models import DaemonModels, Stamps, stamps_of
from .patch_sets import PatchSet, write_patch_set
from .remote_weights import WeightOwner, reference_of
from .sending import W, send
from .tamper import Edit, Snapshot

ATTRIBUTE = "_luna_skeleton"
# What a model patcher writes at a model's root.
_BOOKKEEPING = {
    "can_assign_sd",
    "current_patcher",
    "current_weight_patches_uuid",
    "device",
    "lowvram_patch_counter",
    "manual_cast_dtype",
    "model_loaded_weight_memory",
    "model_lowvram",
    "model_offload_buffer_memory",
}


@dataclass(frozen=True)
class Loaded:
    """The weights that would now be in the model: those of the patcher loaded last, as it was then.

    Its clones with the same weights load nothing; `loader` is the one that did.
    """

    loader: ModelPatcher
    patcher: ModelPatcher
    uuid: Any
    patches: Mapping[str, Sequence[tuple[Any, ...]]]
    settings: Settings  # of torch, when they were put on


@dataclass(frozen=True)
class Origin:
    """Where a model comes from.

    Attributes:
        kind: clip, vae or clip_vision.
        title: How messages call it.
        part: What the daemon is asked for.
        bring_here: Loads the weights into this process, for the reason that is given.
        build: Makes one more skeleton of it and returns its module tree's root.
    """

    kind: ModelKind
    title: str
    part: ModelPart
    bring_here: Callable[[Skeleton, EditNotSharedError], None]
    build: Callable[[DaemonModels], torch.nn.Module]


class Skeleton:
    """One model in the daemon, seen from here."""

    def __init__(self, origin: Origin, models: DaemonModels, root: torch.nn.Module) -> None:
        self.origin = origin
        self.models = models
        self.root = root
        self.is_local = False
        self.last: Loaded | None = None
        self.hook_patches: Mapping[str, Sequence[tuple[Any, ...]]] = {}
        self.patchers: weakref.WeakSet[ModelPatcher] = weakref.WeakSet()
        self.fetched: dict[str, torch.Tensor] = {}
        self.snapshot: Snapshot | None = None
        self.base_classes: dict[torch.nn.Module, type] = {}
        self._borrowed: set[str] = set()
        self._drawing: set[tuple[str, str]] = set()  # methods that draw random numbers
        self._files = stamps_of(origin.part.files)
        self._plain_casting: tuple[Any, Any] = (None, False)
        self._patch_set: tuple[Any, PatchSet | None] | None = None
        vars(root)[ATTRIBUTE] = self
        self.role = _role(origin, self._files)
        self.key = models.claim(self.role, origin.part)
        self._claim_end = models.release_with(self, self.role)

    # -- for weights ------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """How messages call the model."""
        return self.origin.title

    @property
    def nominal_device(self) -> torch.device:
        """Where the weights would be now if ComfyUI had loaded them."""
        device = getattr(self.root, "device", None)
        return device if isinstance(device, torch.device) else torch.device("cpu")

    def real_weight(self, name: str) -> torch.Tensor | None:
        """Return a weight that this process has: fetched once, or of the model loaded here."""
        if not self.is_local and self.models.policy == "local":
            self.go_local(EditNotSharedError(f"A node used the weight '{name}'."))
        return self._weight_here(name) if self.is_local else self.fetched.get(name)

    # -- for patchers -----------------------------------------------------------------------------

    def loaded(self, patcher: ModelPatcher) -> None:
        """Note that a patcher's weights would now be in the model."""
        self.root.current_weight_patches_uuid = patcher.patches_uuid
        if self.last is None or self.last.uuid != patcher.patches_uuid:
            patches = {key: tuple(value) for key, value in patcher.patches.items()}
            settings = current_settings()
            self.last = Loaded(patcher, patcher, patcher.patches_uuid, patches, settings)
        elif self.last.patcher is not patcher:
            self.last = replace(self.last, patcher=patcher)

    def unloaded(self) -> None:
        """Note that the model would now have the weights of its file."""
        self.last = None

    # -- for proxies ------------------------------------------------------------------------------

    def go_local(self, reason: EditNotSharedError) -> None:
        """Load the model into this process where the policy allows it; raise the reason where not."""
        if self.is_local:
            return
        if self.models.policy != "local":
            raise reason
        self.origin.bring_here(self, reason)

    def give_up(self) -> None:
        """Tell the daemon that this model is no longer needed."""
        self._claim_end()

    def another(self) -> Skeleton:
        """Return one more skeleton of the same model, as its file has it.

        Raises:
            EditNotSharedError: This one was edited, and the edits would be missing.
        """
        self.refuse(self.edits())
        return skeleton_of(self.origin.build(self.models))

    def check_own(self, module: torch.nn.Module) -> None:
        """Refuse a part of the model that is a copy: its edits are in no picture."""
        if module not in self.base_classes:
            raise EditNotSharedError(
                f"A node made a copy of a part of {self.title} and uses it; the daemon, which runs "
                "the model, does not have that copy."
            )

    def adopt(self, patcher: ModelPatcher) -> None:
        """Take the model's first patcher."""
        self.patchers.add(patcher)
        self._plain_casting = foreign_code.casting(patcher)

    # -- for calls --------------------------------------------------------------------------------

    def take_picture(
        self, is_free: Callable[[str, str], bool], noticed: frozenset[str] = frozenset()
    ) -> None:
        """Take the module tree for what it should be."""

        def is_free_here(path: str, name: str) -> bool:
            return name == ATTRIBUTE or (not path and name in _BOOKKEEPING) or is_free(path, name)

        self.snapshot = Snapshot(self.root, is_free_here, noticed)

    def edits(self) -> list[Edit]:
        """Return what was changed in the module tree, and refuse what cannot be sent at all.

        Raises:
            EditNotSharedError: ComfyUI's code, or this model's patcher, was changed in such a way.
        """
        self._check_files()
        assert self.snapshot is not None
        foreign_code.refuse_code_of(self.title, self.snapshot.modules.values())
        foreign_code.refuse_code_around(self.title)
        if self.last is not None:
            foreign_code.refuse_code_in(self.last.patcher, self.title, self._plain_casting)
            if self.last.patches and self.root.current_weight_patches_uuid != self.last.uuid:
                raise EditNotSharedError(
                    f"A node loaded {self.title} through a patcher of its own."
                )
        return self.snapshot.edits()

    def refuse(self, edits: Sequence[Edit]) -> None:
        """Refuse edits that only work where the weights are."""
        if edits:
            more = f" and {len(edits) - 1} more places" if len(edits) > 1 else ""
            raise EditNotSharedError(
                f"A node changed {self.title} itself ('{edits[0]}'{more}); the daemon, which runs "
                "it, does not see that."
            )

    def patch_set(self) -> PatchSet | None:
        """Return what is to be done to the weights.

        Raises:
            EditNotSharedError: A patch is code of another pack, or would be put on by such code.
        """
        if self.last is None and not self.hook_patches:
            return None
        patches = self.last.patches if self.last else {}
        foreign_code.refuse_patching(self.title, patches, self.hook_patches)
        if (patches and self.last and has_autocast(self.last.settings)) or (
            self.hook_patches and has_autocast(current_settings())
        ):
            raise EditNotSharedError(
                f"A node put LoRAs into {self.title} under autocast, which rounds them otherwise."
            )
        if self.hook_patches or self.last is None:
            return write_patch_set(patches, self.hook_patches, self.models.digests, self._key_of)
        if self._patch_set is None or self._patch_set[0] != self.last.uuid:
            made = write_patch_set(patches, None, self.models.digests, self._key_of)
            self._patch_set = (self.last.uuid, made)
        return self._patch_set[1]

    def call(
        self,
        module: str,
        method: str,
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
        state: Mapping[str, Mapping[str, Any]] | None = None,
        patch_set: PatchSet | None = None,
    ) -> Any:
        """Let the daemon call a method of the model, and return what it returned.

        Raises:
            DaemonGoneError: The connection was lost, and the policy allows to go on without the daemon.
        """
        written, tensors = self._written(arguments)
        work = CallModel(
            kind=self.origin.kind,
            role=self.role,
            module=module,
            method=method,
            state=dump_tree(state)[0],
            arguments=written,
            also=self.roles_of(patch_set),
            settings=current_settings(),
        )
        if (module, method) not in self._drawing:
            result, received = self.send(work, tensors, patch_set)
            if isinstance(result, Needed):
                self._drawing.add((module, method))
        if (module, method) in self._drawing:
            states = current_states(self.nominal_device)
            numbers = range(len(tensors), len(tensors) + len(states))
            work = msgspec.structs.replace(work, random=dict(zip(states, numbers, strict=True)))
            result, received = self.send(work, [*tensors, *states.values()], patch_set)
        assert isinstance(result, Returned)
        set_states({name: received[at] for name, at in result.random.items()}, self.nominal_device)
        return load_tree(result.value, received)

    def send(
        self, work: W, tensors: Sequence[torch.Tensor], patch_set: PatchSet | None
    ) -> tuple[Any, list[torch.Tensor]]:
        """Let the daemon do something with the model; return the result and its tensors.

        Raises:
            ConnectionLostError: The daemon has ended, and the policy does not allow to go on without it.
            DaemonGoneError: The same, and the policy allows it.
            MemoryEndedThereError: The daemon's device has no room for it.
            FailedThereError: ComfyUI's code has failed there.
        """
        try:
            return send(self.models, work, tensors, patch_set)
        except OutOfMemoryError as error:
            raise MemoryEndedThereError(error.message, error.hint) from error
        except BadRequestError as error:
            raise FailedThereError(error.message, error.hint) from error
        except (ConnectionLostError, DrainingError) as error:
            self.models.is_lost = True
            if self.models.policy == "local":
                raise DaemonGoneError(f"The daemon is gone. {error.message}") from error
            raise ConnectionLostError(
                f"The daemon, which holds {self.title}, has ended or cannot be reached any more. "
                f"{error.message}",
                "Queue the prompt again: the daemon is started where it does not run. Its log says "
                "why it ended: luna-daemon logs.",
            ) from error

    def roles_of(self, patch_set: PatchSet | None) -> tuple[str, ...]:
        """Return the roles of the models whose weights a patch set refers to."""
        owners = patch_set.owners if patch_set else ()
        return tuple(_skeleton(owner).role for owner in owners)

    def __deepcopy__(self, memo: dict[int, Any]) -> Skeleton:
        return self

    def _weight_here(self, name: str) -> torch.Tensor:
        """Return a weight of the model loaded here, as it is in use, else as it was loaded."""
        path, _, attribute = name.rpartition(".")
        assert self.snapshot is not None
        try:
            found = comfy.utils.get_attr(self.root, name)
        except AttributeError:
            found = None
        if not isinstance(found, torch.Tensor) or reference_of(found) is not None:
            # A node's module is in that place: without such a weight, or with this very reference to it.
            found = getattr(self.snapshot.modules[path], attribute)
        assert isinstance(found, torch.Tensor)
        return found

    def _key_of(self, owner: WeightOwner) -> str:
        other = _skeleton(owner)
        if other.models is not self.models and other.role not in self._borrowed:
            # Another workflow's model: this workflow needs it, too, as long as this model lives.
            self.models.claim(other.role, other.origin.part)
            self.models.release_with(self, other.role)
            self._borrowed.add(other.role)
        return other.key

    def _written(
        self, arguments: tuple[tuple[Any, ...], dict[str, Any]]
    ) -> tuple[msgspec.Raw, list[torch.Tensor]]:
        """Return a call's arguments as they are sent, and refuse what only works in this process."""
        try:
            written, tensors = dump_tree(arguments)
        except BadRequestError as error:
            raise EditNotSharedError(
                f"A node called {self.title} itself. {error.message}"
            ) from error
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            raise EditNotSharedError(
                f"A node wants gradients of what {self.title} makes, which do not come back from the "
                "daemon."
            )
        return written, tensors

    def _check_files(self) -> None:
        if stamps_of(self.origin.part.files) != self._files:
            raise NotFoundError(
                f"The file of {self.title} was changed or removed after it was loaded.",
                "Load the model again: change something on its loader, or use ComfyUI's "
                "'Unload Models'.",
            )


def skeleton_of(root: torch.nn.Module) -> Skeleton:
    """Return what hangs at a module tree's root."""
    found = vars(root)[ATTRIBUTE]
    assert isinstance(found, Skeleton)
    return found


def _skeleton(owner: WeightOwner) -> Skeleton:
    assert isinstance(owner, Skeleton)
    return owner


def _role(origin: Origin, stamps: Stamps) -> str:
    import hashlib

    names = "+".join(os.path.basename(name) for name in origin.part.files)
    told = repr((stamps, origin.part.kind, sorted(origin.part.options.items())))
    return f"{origin.kind} {names[:200]} {hashlib.sha256(told.encode()).hexdigest()[:8]}"
