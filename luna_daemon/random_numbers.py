"""The state of torch's random numbers, which a few VAEs draw while they encode or decode.

ComfyUI seeds them in its own process. So the state goes to the worker with such a call, and comes back.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

# "cpu", "cuda", … → the state of that device's generator, as bytes.
States = dict[str, torch.Tensor]


def current_states(device: torch.device) -> States:
    """Return the states of the CPU's generator and of a device's own."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state(device)
    return states


def set_states(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Go on from other states; those of other kinds of devices than this one are left out.

    Raises:
        RuntimeError: It is no state of such a generator.
    """
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device.type != "cpu" and device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type], device)


def are_equal(states: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether nothing was drawn between two moments."""
    return states.keys() == others.keys() and all(
        torch.equal(state, others[name]) for name, state in states.items()
    )
