"""Which models stay in memory: budget, least recently used, never one that is leased or at work.

One `Residency` speaks for the memory of one worker process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ..errors import RejectedError
from ..protocol.worker_messages import ModelSpec


@dataclass(frozen=True, slots=True)
class ResidentModel:
    """A model in memory."""

    spec: ModelSpec
    nbytes: int


class Residency:
    """The models of one worker, least recently used first."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, ResidentModel] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def models(self) -> list[ResidentModel]:
        """Return what is in memory, least recently used first."""
        return list(self._models.values())

    @property
    def used_bytes(self) -> int:
        """Memory of all models."""
        return sum(model.nbytes for model in self._models.values())

    def touch(self, key: str) -> None:
        """Note that the model was used."""
        self._models.move_to_end(key)

    def add(self, spec: ModelSpec, nbytes: int) -> None:
        """Note that the model is in memory."""
        self._models[spec.key] = ResidentModel(spec, nbytes)
        self._models.move_to_end(spec.key)

    def remove(self, key: str) -> ResidentModel | None:
        """Note that the model is no longer in memory; return what was there."""
        return self._models.pop(key, None)

    def plan_room(
        self, spec: ModelSpec, budget_bytes: int, must_stay: Collection[str]
    ) -> list[str]:
        """Return the models to drop, in order, before `spec` can be loaded.

        Args:
            spec: What is to be loaded, with its estimated size.
            budget_bytes: Memory that all models of this worker may take.
            must_stay: Keys of the models that are leased or at work.

        Raises:
            RejectedError: Even without every model that may go there is not enough room.
        """
        excess = self.used_bytes + spec.nbytes - budget_bytes
        drop: list[str] = []
        for key, model in self._models.items():
            if excess <= 0:
                break
            if key not in must_stay:
                drop.append(key)
                excess -= model.nbytes
        if excess > 0:
            held = self.used_bytes - sum(self._models[key].nbytes for key in drop)
            raise RejectedError(
                f"The model for '{spec.role}' needs {_mb(spec.nbytes)} MB, and of the device's budget of "
                f"{_mb(budget_bytes)} MB {_mb(held)} MB are held by other workflows.",
                "Release a workflow, or raise device_budgets_gb.",
                retry_after_s=5.0,
            )
        return drop


def _mb(nbytes: int) -> int:
    return round(nbytes / 2**20)
