"""The models that a worker process has, inside it: on the device, or asleep in RAM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import NotFoundError

if TYPE_CHECKING:
    from ..engines.engine import Engine, Resident
    from ..protocol.worker_messages import ModelSpec


class Residents:
    """Loads, moves and drops models; all calls come from the executor thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._models: dict[str, Resident] = {}
        self._asleep: set[str] = set()

    def load(self, spec: ModelSpec, image: int | None) -> int:
        """Load a model unless it is there; return the bytes of its weights."""
        if spec.key not in self._models:
            self._models[spec.key] = self._engine.load(spec, image)
        return self._models[spec.key].nbytes

    def unload(self, key: str) -> None:
        """Drop a model, if it is there."""
        self._asleep.discard(key)
        resident = self._models.pop(key, None)
        if resident is not None:
            self._engine.unload(resident)

    def move(self, key: str, place: str) -> None:
        """Put a model to sleep ("ram") or wake it ("device").

        Raises:
            NotFoundError: There is no such model.
            OutOfMemoryError: There is no room; it is where it was.
        """
        if key not in self._models:
            raise NotFoundError("The model that is to move is not in this worker's memory.")
        self._engine.move(self._models[key], place)
        if place == "ram":
            self._asleep.add(key)
        else:
            self._asleep.discard(key)

    def find(self, keys: Mapping[str, str]) -> dict[str, Resident]:
        """Return role → model for role → key.

        Raises:
            NotFoundError: One of them is not there, or asleep.
        """
        awake = self._models.keys() - self._asleep
        missing = [role for role, key in keys.items() if key not in awake]
        if missing:
            raise NotFoundError(f"The model for '{missing[0]}' is not in this worker's memory.")
        return {role: self._models[key] for role, key in keys.items()}
