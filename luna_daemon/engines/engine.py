"""The interface between a worker and whatever runs models.

An engine loads a model from files, runs typed work on loaded models, and says how much memory they
hold. It knows nothing of sockets, workflows or queues. All its methods are called from one thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ..errors import BadRequestError, DaemonError
from ..protocol.work import AnyResult, AnyWork
from ..protocol.worker_messages import ModelSpec


class RunControl(Protocol):
    """How running work talks to whoever asked for it."""

    def check(self) -> None:
        """Raise CanceledError when the caller has given up. Call it at every safe point."""

    def progress(self, done: int, total: int) -> None:
        """Tell that `done` of `total` steps are finished."""

    def note(self, text: str) -> None:
        """Tell the person at the screen that something was done otherwise than asked."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model. `model` is the engine's own object; nobody else looks into it."""

    spec: ModelSpec
    model: Any
    nbytes: int  # memory its weights hold on the device


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an engine: what `Engine.run` takes."""

    work: AnyWork
    model_type: str
    models: Mapping[str, Resident]
    tensors: Sequence[torch.Tensor]
    control: RunControl


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of work. `result` refers to `tensors` by index."""

    result: AnyResult
    tensors: tuple[torch.Tensor, ...]
    cache_hit: bool = False


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What every engine is told when it starts."""

    device: str  # torch's name inside this process: cpu, cuda:0, mps
    conditioning_cache_bytes: int = 256 * 2**20
    patch_cache_bytes: int = 2 * 2**30


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """State of an engine's conditioning cache, and of its patch sets."""

    entries: int = 0
    nbytes: int = 0
    hits: int = 0
    misses: int = 0
    patch_sets: int = 0
    patch_bytes: int = 0


@dataclass(slots=True)
class SilentControl:
    """A RunControl for work that nobody watches: in-process use and reference runs."""

    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Never cancelled."""

    def progress(self, done: int, total: int) -> None:
        """Nobody watches."""

    def note(self, text: str) -> None:
        """Keep the note for whoever asks."""
        self.notes.append(text)


class Engine(ABC):
    """Loads and runs models on one device."""

    name: str

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return the versions that decide about results, by library (torch, comfyui)."""

    @abstractmethod
    def load(self, spec: ModelSpec, image: int | None = None) -> Resident:
        """Load a model.

        `image`: descriptor of memory for weights that the workers of this device share; an engine that
        shares none leaves it as it is. The caller closes it.

        Raises:
            BadRequestError: A file is damaged, of another kind, or lacks weights.
            NotFoundError: A file that belongs to the model is missing.
            OutOfMemoryError: The device has no room for it; nothing of it is kept.
        """

    @abstractmethod
    def run(
        self,
        work: AnyWork,
        model_type: str,
        models: Mapping[str, Resident],
        tensors: Sequence[torch.Tensor],
        control: RunControl,
    ) -> Outcome:
        """Do the work. `models`: role → resident; `tensors`: what the work's fields refer to.

        Raises:
            BadRequestError: Shapes or values that the models cannot take.
            OutOfMemoryError: Even the smallest way needs more memory than there is.
            CanceledError: `control.check()` said so.
        """

    def joins(self, work: AnyWork) -> bool:
        """Can calls of this work be done together, with every result the same bit for bit?"""
        return False

    def run_group(self, calls: Sequence[Call]) -> Sequence[Outcome | DaemonError]:
        """Do several calls together that differ in texts and tensors only.

        Called for work that `joins` is true of; each call has its outcome or its error.
        """
        raise BadRequestError(f"The engine '{self.name}' does not join calls.")

    @abstractmethod
    def move(self, resident: Resident, place: str) -> None:
        """Put a model to sleep (place "ram") or wake it (place "device"), whole or not at all.

        Raises:
            OutOfMemoryError: There is no room for it; it is where it was.
        """

    @abstractmethod
    def rest(self) -> None:
        """There has been no work for a while: give back memory that is only kept for the next."""

    @abstractmethod
    def unload(self, resident: Resident) -> None:
        """Give a model's memory back to the device, and forget cached results of it."""

    @abstractmethod
    def cache_counts(self) -> CacheCounts:
        """Return the state of the caches."""
