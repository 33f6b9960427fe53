"""States of random numbers are taken over and compared."""

from __future__ import annotations

import torch
from luna_collection.luna_daemon.random_numbers import are_equal, current_states, set_states

CPU = torch.device("cpu")


def test_numbers_go_on_from_a_state():
    torch.manual_seed(7)
    states = current_states(CPU)
    first = torch.rand(3)
    assert not are_equal(states, current_states(CPU))
    set_states(states, CPU)
    assert are_equal(states, current_states(CPU))
    assert torch.equal(torch.rand(3), first)


def test_states_of_other_devices_are_left_out():
    before = current_states(CPU)
    set_states({"cuda": torch.zeros(16, dtype=torch.uint8)}, CPU)
    assert are_equal(before, current_states(CPU))
    assert not are_equal(before, {})
