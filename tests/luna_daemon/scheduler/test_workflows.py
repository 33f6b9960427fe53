from __future__ import annotations

import pytest
from luna_collection.luna_daemon.errors import NotFoundError
from luna_collection.luna_daemon.protocol.worker_messages import ModelSpec
from luna_collection.luna_daemon.scheduler.workflows import Lease, WorkflowRegistry


def spec(key: str, role: str = "vae") -> ModelSpec:
    return ModelSpec(key=key, role=role, path=f"/models/{key}", precision="fp16", nbytes=100)


def lease(session: int, workflow_id: str, **models: str) -> Lease:
    specs = {role: spec(key, role) for role, key in models.items()}
    return Lease(session, workflow_id, "SDXL", specs)


def registry(*leases: Lease, grace_s: float = 30.0) -> WorkflowRegistry:
    made = WorkflowRegistry(grace_s)
    for each in leases:
        made.register(each)
    return made


def held(models: WorkflowRegistry) -> set[tuple[int, str]]:
    return {(each.session, each.workflow_id) for each in models.leases()}


def test_a_registered_workflow_holds_its_models():
    models = registry(lease(1, "a", vae="k1", clip_l="k2"))
    assert [models.is_leased(key) for key in ("k1", "k2", "k3")] == [True, True, False]


def test_a_lease_is_found_by_session_and_workflow():
    mine = lease(1, "a", vae="k1")
    assert registry(mine, lease(2, "a", vae="k1")).lease(1, "a") is mine


@pytest.mark.parametrize(
    ("session", "workflow_id"), [(1, "b"), (2, "a")], ids=["workflow", "session"]
)
def test_what_was_not_registered_is_not_found(session: int, workflow_id: str):
    models = registry(lease(1, "a", vae="k1"))
    assert models.find(session, workflow_id) is None
    with pytest.raises(NotFoundError, match=f"The workflow '{workflow_id}' has not registered"):
        models.lease(session, workflow_id)


def test_a_released_workflow_holds_nothing_at_once():
    models = registry(lease(1, "a", vae="k1"))
    assert (models.release(1, "a"), models.is_leased("k1")) == (True, False)


def test_releasing_twice_is_noticed():
    models = registry(lease(1, "a", vae="k1"))
    models.release(1, "a")
    assert models.release(1, "a") is False


def test_registering_again_replaces_what_the_session_held():
    models = registry(lease(1, "a", vae="k1"), lease(1, "a", vae="k2"))
    assert ([models.is_leased(k) for k in ("k1", "k2")], len(models.leases())) == ([False, True], 1)


def test_a_session_may_hold_several_workflows():
    models = registry(lease(1, "a", vae="k1"), lease(1, "b", vae="k2"))
    models.release(1, "a")
    assert held(models) == {(1, "b")}


def test_workflows_with_the_same_weights_share_them():
    models = registry(lease(1, "a", vae="k1"), lease(2, "b", vae="k1"), lease(2, "c", vae="k2"))
    assert models.users("k1") == ["a", "b"]


def test_shared_weights_are_held_until_the_last_workflow_lets_go():
    models = registry(lease(1, "a", vae="k1"), lease(2, "b", vae="k1"))
    models.release(1, "a")
    assert models.is_leased("k1") is True
    models.release(2, "b")
    assert models.is_leased("k1") is False


def test_two_sessions_may_hold_the_same_workflow():
    models = registry(lease(1, "a", vae="k1"), lease(2, "a", vae="k1"))
    models.release(1, "a")
    assert (held(models), models.users("k1")) == ({(2, "a")}, ["a"])


def test_a_workflow_that_two_sessions_hold_is_one_user():
    assert registry(lease(1, "a", vae="k1"), lease(2, "a", vae="k1")).users("k1") == ["a"]


def test_two_sessions_may_hold_a_workflow_of_one_name_with_different_models():
    models = registry(lease(1, "a", vae="k1"), lease(2, "a", vae="k2"))
    assert [models.lease(n, "a").models["vae"].key for n in (1, 2)] == ["k1", "k2"]


def test_a_model_that_nobody_holds_has_no_users():
    assert registry(lease(1, "a", vae="k1")).users("k9") == []


def test_a_lost_session_keeps_its_models_for_the_grace_period():
    models = registry(lease(1, "a", vae="k1"))
    models.session_ended(1, now=100.0)
    assert (models.expire(now=129.9), models.is_leased("k1")) == ([], True)


def test_after_the_grace_period_the_models_are_free():
    models = registry(lease(1, "a", vae="k1"), lease(1, "b", vae="k2"))
    models.session_ended(1, now=100.0)
    assert sorted(each.workflow_id for each in models.expire(now=130.0)) == ["a", "b"]
    assert [models.is_leased(key) for key in ("k1", "k2")] == [False, False]


def test_without_a_grace_period_the_models_are_free_at_once():
    models = registry(lease(1, "a", vae="k1"), grace_s=0.0)
    models.session_ended(1, now=100.0)
    assert len(models.expire(now=100.0)) == 1


def test_a_living_session_never_expires():
    assert registry(lease(1, "a", vae="k1")).expire(now=1e12) == []


def test_the_end_of_one_session_leaves_the_others():
    models = registry(lease(1, "a", vae="k1"), lease(2, "a", vae="k1"))
    models.session_ended(1, now=0.0)
    models.expire(now=1000.0)
    assert held(models) == {(2, "a")}


def test_a_session_that_ends_twice_gets_no_longer_grace():
    models = registry(lease(1, "a", vae="k1"))
    models.session_ended(1, now=0.0)
    models.session_ended(1, now=20.0)
    assert len(models.expire(now=30.0)) == 1


def test_an_expired_lease_is_told_once():
    models = registry(lease(1, "a", vae="k1"), grace_s=0.0)
    models.session_ended(1, now=0.0)
    models.expire(now=1.0)
    assert models.expire(now=2.0) == []


def test_who_comes_back_takes_over_from_the_lost_session():
    models = registry(lease(1, "a", vae="k1"))
    models.session_ended(1, now=0.0)
    models.register(lease(2, "a", vae="k2"))
    assert (held(models), models.is_leased("k1")) == ({(2, "a")}, False)


def test_who_comes_back_for_one_workflow_leaves_the_other_lost_ones():
    models = registry(lease(1, "a", vae="k1"), lease(1, "b", vae="k2"))
    models.session_ended(1, now=0.0)
    models.register(lease(2, "a", vae="k1"))
    assert held(models) == {(2, "a"), (1, "b")}


def test_who_comes_back_does_not_expire_with_the_lost_session():
    models = registry(lease(1, "a", vae="k1"))
    models.session_ended(1, now=0.0)
    models.register(lease(2, "a", vae="k1"))
    assert (models.expire(now=1e9), models.is_leased("k1")) == ([], True)


def test_a_registration_that_failed_leaves_what_the_session_held():
    before = lease(1, "a", vae="k1")
    models = registry(before)
    failed = lease(1, "a", vae="k2")
    models.withdraw(failed, models.register(failed))
    assert models.leases() == [before]


def test_a_registration_that_failed_leaves_what_a_lost_session_held():
    models = registry(lease(1, "a", vae="k1"), grace_s=30)
    models.session_ended(1, now=100)
    failed = lease(2, "a", vae="k2")
    models.withdraw(failed, models.register(failed))
    assert (models.is_leased("k1"), models.is_leased("k2")) == (True, False)
    assert [each.workflow_id for each in models.expire(130)] == ["a"]


def test_a_registration_that_fails_after_its_session_has_ended_leaves_nothing_for_ever():
    models = registry(lease(1, "a", vae="k1"), grace_s=30)
    failed = lease(1, "a", vae="k2")
    replaced = models.register(failed)
    models.session_ended(1, now=100)
    models.withdraw(failed, replaced)
    assert (models.is_leased("k1"), models.is_leased("k2")) == (True, False)
    models.expire(130)
    assert models.leases() == []


def test_a_failure_does_not_undo_a_later_registration_or_release():
    models = registry()
    failed = lease(1, "a", vae="k1")
    replaced = models.register(failed)
    later = lease(1, "a", vae="k2")
    models.register(later)
    models.withdraw(failed, replaced)
    assert models.leases() == [later]
    models.release(1, "a")
    models.withdraw(later, [failed])
    assert models.leases() == []
