"""Edits of a module tree are noticed; what is not one is not."""

from __future__ import annotations

from types import MethodType

import pytest
import torch
from luna_collection.luna_daemon.proxy.tamper import Snapshot


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Conv2d(3, 3, 1)
        self.steps = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(2, 2, device="meta"))
        self.options = {"sizes": [1, 2]}
        self.layer = "last"

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value


@pytest.fixture
def block() -> Block:
    return Block().eval()


@pytest.fixture
def snapshot(block: Block) -> Snapshot:
    return Snapshot(block, lambda _, name: name == "layer", frozenset({"noticed"}))


def found(snapshot: Snapshot) -> list[str]:
    return sorted(str(edit) for edit in snapshot.edits())


def test_nothing_has_changed(snapshot):
    assert snapshot.edits() == []


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (lambda b: setattr(b.inner, "padding_mode", "circular"), "inner.padding_mode"),
        (lambda b: setattr(b, "forward", lambda x: x), "forward"),
        (lambda b: setattr(b.inner, "forward", b.forward), "inner.forward"),
        (lambda b: b.options["sizes"].append(3), "options"),
        (lambda b: vars(b.inner).pop("stride"), "inner.stride"),
        (lambda b: setattr(b, "inner", torch.nn.Identity()), "inner"),
        (lambda b: b.steps.append(torch.nn.ReLU()), "steps.2"),
        (lambda b: b.inner.register_forward_hook(lambda *_: None), "inner._forward_hooks"),
        (lambda b: b.inner.weight.data.add_(1), "inner.weight"),
        (lambda b: setattr(b.inner, "__class__", torch.nn.Conv2d.__mro__[1]), "inner.__class__"),
        (lambda b: b.train(), "training"),
        (lambda b: setattr(b, "noticed", 1), "noticed"),
        (
            lambda b: setattr(b.steps[1], "weight", torch.nn.Parameter(torch.zeros(2, 2))),
            "steps.1._parameters",
        ),
    ],
)
def test_an_edit(block, snapshot, edit, name):
    edit(block)
    assert name in found(snapshot)


def test_a_replaced_child_says_that_it_is_one(block, snapshot):
    block.inner = torch.nn.Identity()
    (edit,) = snapshot.edits()
    assert (edit.path, edit.name, edit.is_child) == ("", "inner", True)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: setattr(b, "somebody_was_here", object()),
        lambda b: setattr(b, "forward", b.forward),
        lambda b: setattr(b, "forward", MethodType(Block.forward, b)),
        lambda b: setattr(b, "layer", "hidden"),
        lambda b: setattr(b, "options", {"sizes": [1, 2]}),
        lambda b: setattr(b, "spare", torch.nn.ReLU()),
        lambda b: b.eval(),
    ],
)
def test_what_is_harmless(block, snapshot, change):
    change(block)
    assert snapshot.edits() == []


def test_an_undone_edit_is_none(block, snapshot):
    usual = block.inner
    block.inner = torch.nn.Identity()
    block.steps[0].inplace = True
    assert len(snapshot.edits()) == 2
    block.inner = usual
    block.steps[0].inplace = False
    assert snapshot.edits() == []


def test_a_renewed_module_is_what_it_is_now(block, snapshot):
    block.inner.padding_mode = "circular"
    snapshot.renew(block.inner)
    assert snapshot.edits() == []
    block.inner.padding_mode = "zeros"
    assert found(snapshot) == ["inner.padding_mode"]
