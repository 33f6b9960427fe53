"""Differences between releases of ComfyUI are met by what a function takes, never by a version."""

from __future__ import annotations

import importlib
import inspect

import pytest


def test_only_what_a_function_takes_is_given_to_it():
    from luna_collection.luna_daemon.proxy.builders import accepted

    def old(state_dicts: object, embedding_directory: object = None) -> None:
        """Like a loader before 0.16."""

    assert accepted(old, embedding_directory="x", disable_dynamic=True) == {
        "embedding_directory": "x"
    }
    assert accepted(old, disable_dynamic=True) == {}


def test_a_patcher_takes_whatever_a_release_gives_it():
    """Each method of ComfyUI's patcher that ours replaces takes at least the same arguments."""
    from luna_collection.luna_daemon.proxy.patcher import SkeletonPatcher

    stock_class = SkeletonPatcher.__mro__[1]
    for name, ours in vars(SkeletonPatcher).items():
        stock = vars(stock_class).get(name)
        if name.startswith("__") or not inspect.isfunction(ours) or not inspect.isfunction(stock):
            continue
        given = inspect.signature(stock).parameters.values()
        named = {p.name: None for p in given if p.kind is p.POSITIONAL_OR_KEYWORD}
        inspect.signature(ours).bind(**named)
        inspect.signature(ours).bind(*named.values())


@pytest.mark.parametrize("may_share", [True, False], ids=["now", "before"])
def test_ids_of_inputs_and_outputs_may_have_to_differ(monkeypatch, may_share):
    from luna_collection.nodes import schema

    module = importlib.import_module("luna_collection.nodes.loaders.luna_checkpoint_tunnel")
    monkeypatch.setattr(schema, "_may_share_ids", lambda: may_share)
    described = module.LunaCheckpointTunnel.define_schema()
    inputs = {given.id for given in described.inputs}
    shown = [output.display_name or output.id for output in described.outputs]
    assert shown == ["model", "clip", "vae", "status"]
    assert inputs.isdisjoint({output.id for output in described.outputs}) is not may_share
