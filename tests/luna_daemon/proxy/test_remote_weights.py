"""A weight in the daemon: everything about it but its values."""

from __future__ import annotations

import copy

import pytest
import torch
from luna_collection.luna_daemon.proxy.errors import WeightsElsewhereError
from luna_collection.luna_daemon.proxy.remote_weights import (
    RemoteWeight,
    reference_of,
    replace_weights,
)


class Owner:
    """A model, as its weights know it."""

    title = "the VAE 'x.safetensors'"
    nominal_device = torch.device("cpu")

    def __init__(self) -> None:
        self.here: dict[str, torch.Tensor] = {}

    def real_weight(self, name: str) -> torch.Tensor | None:
        return self.here.get(name)


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def weight(owner: Owner) -> RemoteWeight:
    meta = torch.empty(2, 3, dtype=torch.float16, device="meta")
    return RemoteWeight(meta, owner, "decoder.conv.weight")


def test_it_describes_itself(weight):
    assert isinstance(weight, torch.nn.Parameter)
    assert (weight.shape, weight.dtype, weight.ndim) == ((2, 3), torch.float16, 2)
    assert (weight.numel(), weight.nbytes, weight.element_size()) == (6, 12, 2)
    assert (weight.stride(), weight.size(0), len(weight)) == ((3, 1), 2, 2)
    assert weight.device == torch.device("cpu")
    assert weight.is_floating_point()
    assert not weight.requires_grad
    assert not weight.is_meta  # or ComfyUI would put zeros in its place
    assert "decoder.conv.weight" in repr(weight)
    assert {weight: 1}[weight] == 1


def test_a_detached_one_is_the_same_weight(weight, owner):
    assert reference_of(weight.detach()) == (owner, "decoder.conv.weight")
    assert reference_of(torch.zeros(1)) is None


@pytest.mark.parametrize(
    "use",
    [
        lambda w: w + 1,
        lambda w: torch.ones(3) @ w.T,
        lambda w: torch.zeros(1).to(w),
        lambda w: torch.stack([w, w]),
        lambda w: torch.nn.functional.linear(torch.zeros(3), weight=w),
        lambda w: w.data,
        lambda w: w.copy_(torch.zeros(2, 3)),
        lambda w: w == w.clone(),
        lambda w: w.tolist(),
        copy.deepcopy,
        copy.copy,
    ],
)
def test_its_values_are_elsewhere(weight, use):
    with pytest.raises(
        WeightsElsewhereError, match=r"decoder\.conv\.weight.*x\.safetensors.*force_"
    ):
        use(weight)


def test_where_the_real_one_is_here_it_is_used(weight, owner):
    owner.here["decoder.conv.weight"] = torch.ones(2, 3)
    assert torch.equal(weight + 1, torch.full((2, 3), 2.0))
    assert torch.equal(torch.stack([weight, weight]), torch.ones(2, 2, 3))
    weight.add_(2)
    assert owner.here["decoder.conv.weight"].unique().tolist() == [3.0]


def test_a_module_tree_gets_them_and_tied_weights_stay_tied(owner):
    with torch.device("meta"):
        tree = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    tree.tied = torch.nn.Linear(2, 2, device="meta")
    tree.tied.weight = tree[0].weight
    tree[1].running_mean = torch.ones(2)
    replace_weights(tree, owner)
    assert tree.tied.weight is tree[0].weight
    assert reference_of(tree[0].weight) == (owner, "0.weight")
    assert reference_of(tree[1].running_var) == (owner, "1.running_var")
    assert torch.equal(tree[1].running_mean, torch.ones(2))
    assert reference_of(tree.state_dict()["0.bias"]) == (owner, "0.bias")
