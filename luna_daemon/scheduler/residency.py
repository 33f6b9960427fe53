"""Which models stay in memory, and where: least recently used first to go, never one leased or at work.

A model in a worker process is on its device or, if that is a GPU, perhaps asleep in RAM; else its files
are all there is of it. One `Residency` says what one process has; `plan_room` decides for all processes
of a device together.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..errors import RejectedError
from ..protocol.worker_messages import ModelSpec

DEVICE: Final = "device"
RAM: Final = "ram"
DISK: Final = "disk"
_uses = itertools.count(1)  # of all models, so that those of several processes can be compared


@dataclass(frozen=True, slots=True)
class ResidentModel:
    """A model in memory. `place`: DEVICE or RAM; `used`: larger is later."""

    spec: ModelSpec
    nbytes: int
    place: str = DEVICE
    used: int = 0


class Residency:
    """The models of one worker process, least recently used first."""

    def __init__(self) -> None:
        self._models: dict[str, ResidentModel] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._models

    def __iter__(self) -> Iterator[str]:
        return iter([model.spec.key for model in self.models()])

    def models(self) -> list[ResidentModel]:
        """Return what is in memory, least recently used first."""
        return sorted(self._models.values(), key=lambda model: model.used)

    def place_of(self, key: str) -> str:
        """Return where a model is: DEVICE, RAM or DISK."""
        model = self._models.get(key)
        return DISK if model is None else model.place

    @property
    def used_bytes(self) -> int:
        """Memory of all models on the device."""
        return sum(model.nbytes for model in self._models.values() if model.place == DEVICE)

    def touch(self, key: str) -> None:
        """Note that the model was used."""
        self._models[key] = replace(self._models[key], used=next(_uses))

    def add(self, spec: ModelSpec, nbytes: int) -> None:
        """Note that the model is on the device."""
        self._models[spec.key] = ResidentModel(spec, nbytes, used=next(_uses))

    def move(self, key: str, place: str) -> None:
        """Note that the model has gone to sleep (RAM) or woken (DEVICE)."""
        self._models[key] = replace(self._models[key], place=place)

    def remove(self, key: str) -> ResidentModel | None:
        """Note that the model is no longer in memory; return what was there."""
        return self._models.pop(key, None)


@dataclass(frozen=True, slots=True)
class Budget:
    """What the models of one device may take. `ram_bytes`: for those that sleep; 0: none does."""

    device_bytes: int
    ram_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """A model's way out of every process of the device that has it at `source`."""

    key: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to go, in this order. `missing_bytes`: what even then is lacking on the device."""

    moves: tuple[Move, ...]
    held_bytes: int  # by the models that stay
    missing_bytes: int = 0


def used_bytes(residencies: Sequence[Residency], place: str, *, shared: bool) -> int:
    """Return what the models of a device take at one place, over all its processes."""
    return sum(nbytes for _, nbytes in _copies(residencies, place, shared))


def plan_room(
    residencies: Sequence[Residency],
    need_bytes: int,
    budget: Budget,
    must_stay: Collection[str],
    *,
    shared: bool = False,
) -> Plan:
    """Return what has to go before `need_bytes` more can be taken on the device.

    Args:
        residencies: Of all processes of the device.
        need_bytes: For weights that are to come, or for what a run takes beside its weights.
        budget: Of the device.
        must_stay: Keys of the models that are leased or at work; they stay where they are.
        shared: Do the processes share a model's weights, so that they count once?
    """
    awake = _copies(residencies, DEVICE, shared)
    held = sum(nbytes for _, nbytes in awake)
    bedroom = _Bedroom(_copies(residencies, RAM, shared), budget.ram_bytes, must_stay)
    moves: list[Move] = []
    for key, nbytes in awake:
        if held + need_bytes <= budget.device_bytes:
            break
        if key not in must_stay:
            moves += bedroom.put(key, nbytes)
            held -= nbytes
    return Plan(tuple(moves), held, max(0, held + need_bytes - budget.device_bytes))


_MAKE_ROOM = (
    "Let another workflow go (in ComfyUI: its 'Unload Models' and 'Free model and node cache'), raise the "
    "setting device_budgets_gb, or load this model without the daemon."
)


def refuse_load(spec: ModelSpec, plan: Plan, budget: Budget) -> RejectedError:
    """Return the error for a model that a device has no room for."""
    return RejectedError(
        f"The model for '{spec.role}' needs {mb(spec.nbytes)} MB, and of the device's budget of "
        f"{mb(budget.device_bytes)} MB {mb(plan.held_bytes)} MB are held by other workflows.",
        _MAKE_ROOM,
        retry_after_s=5.0,
    )


def refuse_run(need_bytes: int, plan: Plan, budget: Budget) -> RejectedError:
    """Return the error for a run that a device has no room for beside the weights."""
    return RejectedError(
        f"The request needs about {mb(need_bytes)} MB beside the weights, and of the device's budget of "
        f"{mb(budget.device_bytes)} MB {mb(plan.held_bytes)} MB are held by models that workflows use.",
        _MAKE_ROOM,
        retry_after_s=5.0,
    )


def mb(nbytes: int) -> int:
    """Return bytes as megabytes for a sentence."""
    return round(nbytes / 2**20)


class _Bedroom:
    """RAM for sleeping models while a plan is made: who sleeps there last pushes out who did first."""

    def __init__(
        self, asleep: list[tuple[str, int]], nbytes: int, must_stay: Collection[str]
    ) -> None:
        self._may_go = [(key, size) for key, size in asleep if key not in must_stay]
        self._room = nbytes - sum(size for _, size in asleep)

    def put(self, key: str, nbytes: int) -> list[Move]:
        if nbytes > self._room + sum(size for _, size in self._may_go):
            return [Move(key, DEVICE, DISK)]
        moves = []
        while nbytes > self._room:
            other, size = self._may_go.pop(0)
            self._room += size
            moves.append(Move(other, RAM, DISK))
        self._room -= nbytes
        return [*moves, Move(key, DEVICE, RAM)]


def _copies(residencies: Sequence[Residency], place: str, shared: bool) -> list[tuple[str, int]]:
    """Return key and bytes of each model at a place, the least recently used first."""
    sizes: dict[str, int] = {}
    used: dict[str, int] = {}
    for model in (model for residency in residencies for model in residency.models()):
        if model.place == place:
            key, before = model.spec.key, sizes.get(model.spec.key, 0)
            sizes[key] = max(before, model.nbytes) if shared else before + model.nbytes
            used[key] = max(used.get(key, 0), model.used)
    return sorted(sizes.items(), key=lambda item: used[item[0]])
