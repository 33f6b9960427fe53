"""Names by content: equal for equal tensors, different for everything that could matter."""

from __future__ import annotations

import msgspec
import pytest
import torch
from luna_collection.luna_daemon.errors import BadRequestError
from luna_collection.luna_daemon.transport.digests import tensor_digest, tree_digest


def test_equal_tensors_have_equal_names_wherever_they_lie():
    one = torch.arange(24.0).reshape(2, 3, 4)
    other = torch.arange(48.0)[:24].reshape(2, 3, 4)
    assert tensor_digest(one) == tensor_digest(other)
    assert len(tensor_digest(one)) == 64


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(torch.zeros(4, 6), id="another shape"),
        pytest.param(torch.zeros(6, 4, dtype=torch.float16), id="another type"),
        pytest.param(torch.zeros(6, 4, dtype=torch.int32), id="another type of the same bytes"),
        pytest.param(torch.zeros(4, 6).T, id="another order in memory"),
        pytest.param(torch.eye(6, 4), id="other values"),
    ],
)
def test_whatever_differs_has_another_name(other):
    assert tensor_digest(torch.zeros(6, 4)) != tensor_digest(other)


def test_tensors_of_every_size_have_a_name():
    names = {tensor_digest(torch.zeros(shape)) for shape in ((), (0,), (1,), (0, 3))}
    assert len(names) == 4


def test_a_tensor_without_values_has_no_name():
    with pytest.raises(BadRequestError):
        tensor_digest(torch.empty(3, device="meta"))


def test_a_tree_is_named_by_its_text():
    assert tree_digest(msgspec.Raw(b"[1]")) == tree_digest(msgspec.Raw(b"[1]"))
    assert tree_digest(msgspec.Raw(b"[1]")) != tree_digest(msgspec.Raw(b"[2]"))
