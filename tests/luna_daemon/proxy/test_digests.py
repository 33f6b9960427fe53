"""Names of tensors by content are worked out once for each tensor object."""

from __future__ import annotations

import gc

import torch
from luna_collection.luna_daemon.proxy.digests import Digests
from luna_collection.luna_daemon.transport.digests import tensor_digest


def test_a_tensor_is_read_once():
    digests = Digests()
    tensor = torch.arange(10.0)
    assert digests.of(tensor) == digests.of(tensor) == tensor_digest(tensor)
    assert digests.hashed_bytes == tensor.nbytes
    assert digests.of(tensor.clone()) == tensor_digest(tensor)
    assert digests.hashed_bytes == 2 * tensor.nbytes


def test_tensors_that_are_gone_are_forgotten():
    digests = Digests()
    for number in range(100):
        assert digests.of(torch.full((3,), float(number))) == tensor_digest(
            torch.full((3,), float(number))
        )
    gc.collect()
    assert not digests._known
