from __future__ import annotations

import pytest
from luna_collection.luna_daemon.errors import BadRequestError
from luna_collection.luna_daemon.protocol.work import (
    AnyWork,
    CallModel,
    DecodeLatent,
    Echo,
    EncodeImage,
    EncodeText,
    FetchWeights,
)
from luna_collection.luna_daemon.scheduler.placement import (
    Placement,
    ScalingLimits,
    wants_fewer,
    wants_more,
)
from luna_collection.utils.model_types import (
    MODEL_TYPES,
    POOL_OF_KIND,
    POOL_OF_ROLE,
    POOLS_OF_SERVICE,
    VAE_ROLE,
)

FULL = Placement("full", {"clip": "cuda:1", "vae": "cuda:0"})
CLIP_ONLY = Placement("clip", {"clip": "cpu"})
VAE_ONLY = Placement("vae", {"vae": "cpu"})


@pytest.mark.parametrize(
    ("placement", "role", "pool", "device"),
    [
        (FULL, "clip_l", "clip", "cuda:1"),
        (FULL, "clip_g", "clip", "cuda:1"),
        (FULL, "vae", "vae", "cuda:0"),
        (CLIP_ONLY, "clip_g", "clip", "cpu"),
        (VAE_ONLY, "vae", "vae", "cpu"),
    ],
)
def test_a_role_is_served_by_its_pool(placement: Placement, role: str, pool: str, device: str):
    assert (placement.pool_of(role), placement.device_of(pool)) == (pool, device)


@pytest.mark.parametrize(
    ("placement", "role", "sentence"),
    [
        (CLIP_ONLY, "vae", "does not serve VAEs (its service_type is 'clip')."),
        (VAE_ONLY, "clip_l", "does not serve text encoders (its service_type is 'vae')."),
    ],
    ids=["VAE", "text encoder"],
)
def test_a_role_of_the_other_daemon_is_refused(placement: Placement, role: str, sentence: str):
    with pytest.raises(BadRequestError) as refused:
        placement.pool_of(role)
    assert sentence in refused.value.message


@pytest.mark.parametrize("role", ["unet", "", "VAE", "clip"])
def test_an_unknown_role_is_refused_with_the_known_ones(role: str):
    with pytest.raises(BadRequestError, match=f"There is no model role '{role}'") as refused:
        FULL.pool_of(role)
    assert "clip_l" in refused.value.hint


def test_an_unknown_pool_is_refused_by_its_name():
    with pytest.raises(BadRequestError, match="does not serve vision"):
        FULL.device_of("vision")


def test_every_role_of_every_model_type_has_a_pool():
    roles = {role for kind in MODEL_TYPES.values() for role in kind.text_encoders} | {VAE_ROLE}
    assert roles == set(POOL_OF_ROLE)


def test_the_daemons_of_split_mode_together_serve_what_a_full_one_does():
    split = {*POOLS_OF_SERVICE["clip"], *POOLS_OF_SERVICE["vae"]}
    assert split == set(POOLS_OF_SERVICE["full"]) == set(POOL_OF_ROLE.values())


def test_every_work_has_a_pool_or_suits_any():
    all_work = [
        *(EncodeText(texts=("a",)), DecodeLatent(latent=0), EncodeImage(image=0), Echo(tensor=0)),
        *(CallModel(kind=kind, role="r", method="m") for kind in POOL_OF_KIND),
        *(FetchWeights(kind=kind, role="r", names=("n",)) for kind in POOL_OF_KIND),
    ]
    assert {type(work) for work in all_work} == set(AnyWork.__args__)
    assert {work.pool for work in all_work} <= {*POOL_OF_ROLE.values(), "any"}


LIMITS = ScalingLimits(least=0, most=3, wait_s=2.0, idle_s=60.0)


@pytest.mark.parametrize(
    ("workers", "longest_wait_s", "room_bytes", "more"),
    [
        (1, 2.1, 100, True),
        (0, 2.1, 100, True),
        (1, 2.0, 100, False),
        (1, 0.0, 100, False),
        (3, 99.0, 100, False),
        (4, 99.0, 100, False),
        (1, 99.0, 99, False),
        (1, 99.0, -5, False),
        (2, 99.0, 10**12, True),
    ],
    ids=[
        "long wait",
        "no worker yet",
        "wait at the limit",
        "no wait",
        "as many as allowed",
        "more than allowed",
        "no room",
        "over the budget",
        "much room",
    ],
)
def test_a_further_worker_starts_only_after_a_long_wait_and_with_room(
    workers: int, longest_wait_s: float, room_bytes: int, more: bool
):
    assert wants_more(LIMITS, workers, longest_wait_s, room_bytes, need_bytes=100) is more


@pytest.mark.parametrize(
    ("least", "workers", "idle_s", "fewer"),
    [
        (0, 2, 61.0, True),
        (0, 2, 60.0, False),
        (0, 2, 0.0, False),
        (0, 1, 9999.0, False),
        (1, 1, 9999.0, False),
        (2, 2, 9999.0, False),
        (2, 3, 9999.0, True),
    ],
    ids=[
        "idle",
        "idle up to the limit",
        "at work",
        "the only one",
        "the only one of at least one",
        "as few as allowed",
        "one more than is kept",
    ],
)
def test_an_idle_worker_stops_but_never_the_last(
    least: int, workers: int, idle_s: float, fewer: bool
):
    limits = ScalingLimits(least=least, most=3, wait_s=2.0, idle_s=60.0)
    assert wants_fewer(limits, workers, idle_s) is fewer
