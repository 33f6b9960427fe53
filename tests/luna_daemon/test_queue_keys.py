"""Which requests may go to a worker together: those that need no switch in between."""

from __future__ import annotations

from luna_collection.luna_daemon.handlers.work import queue_key
from luna_collection.luna_daemon.protocol.messages import Run
from luna_collection.luna_daemon.protocol.work import CallModel, DecodeLatent, FetchWeights, Recipe
from luna_collection.luna_daemon.protocol.worker_messages import ModelSpec

ONE, OTHER = "1" * 64, "2" * 64


def spec(key: str) -> ModelSpec:
    return ModelSpec(key=key, role="te", path="/x", precision="", nbytes=1, kind="clip")


def key(work: CallModel | FetchWeights | DecodeLatent, model: str = "k"):
    run = Run(id=1, workflow_id="w", work=work, deadline_s=1, idempotency_key="i")
    return queue_key(run, {"te": spec(model)})


def call(method: str = "encode", digest: str = "", module: str = "") -> CallModel:
    recipe = Recipe(digest=digest) if digest else None
    return CallModel(kind="clip", role="te", method=method, module=module, recipe=recipe)


def test_calls_of_one_patch_set_go_together_whatever_they_call():
    together = {
        key(call(digest=ONE)),
        key(call("generate", ONE)),
        key(call(digest=ONE, module="clip_l")),
        key(FetchWeights(kind="clip", role="te", names=("a",), recipe=Recipe(digest=ONE))),
    }
    assert len(together) == 1


def test_other_patch_sets_and_other_models_do_not():
    apart = {key(call()), key(call(digest=ONE)), key(call(digest=OTHER)), key(call(), "other")}
    assert len(apart) == 4


def test_other_work_is_grouped_by_its_options():
    assert key(DecodeLatent(latent=0)) == key(DecodeLatent(latent=1))
    assert key(DecodeLatent(latent=0)) != key(call())
