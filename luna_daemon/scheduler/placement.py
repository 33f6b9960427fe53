"""Which device serves which role, and when a device gets a further worker or loses one."""

from __future__ import annotations

from dataclasses import dataclass

from ...utils.model_types import POOL_OF_ROLE, pool_of_role
from ..errors import BadRequestError

_NOUN = {"clip": "text encoders", "vae": "VAEs"}


@dataclass(frozen=True, slots=True)
class Placement:
    """pool → device, for the pools that this daemon serves."""

    service_type: str
    devices: dict[str, str]

    def pool_of(self, role: str) -> str:
        """Return the pool that serves a role.

        Raises:
            BadRequestError: No such role, or another daemon's task.
        """
        pool = pool_of_role(role)
        if pool is None:
            known = ", ".join(POOL_OF_ROLE)
            raise BadRequestError(f"There is no model role '{role}'.", f"Known roles: {known}.")
        self.device_of(pool)
        return pool

    def device_of(self, pool: str) -> str:
        """Return the device of a pool.

        Raises:
            BadRequestError: This daemon does not serve the pool.
        """
        if pool not in self.devices:
            raise BadRequestError(
                f"This daemon does not serve {_NOUN.get(pool, pool)} (its service_type is '{self.service_type}').",
                "Start one with service_type 'full', or ask the other daemon.",
            )
        return self.devices[pool]


@dataclass(frozen=True, slots=True)
class ScalingLimits:
    """Bounds for the workers of one device."""

    least: int
    most: int
    wait_s: float
    idle_s: float


def wants_more(
    limits: ScalingLimits, workers: int, longest_wait_s: float, room_bytes: int, need_bytes: int
) -> bool:
    """Should a further worker start?

    Args:
        limits: The device's bounds.
        workers: How many there are, starting ones included.
        longest_wait_s: How long the oldest request has waited.
        room_bytes: What the device's budget has left.
        need_bytes: What the waiting requests' models would take a second time.
    """
    return workers < limits.most and longest_wait_s > limits.wait_s and need_bytes <= room_bytes


def wants_fewer(limits: ScalingLimits, workers: int, idle_s: float) -> bool:
    """Should a worker that has been idle for `idle_s` stop? The first worker of a device stays."""
    return workers > max(1, limits.least) and idle_s > limits.idle_s
