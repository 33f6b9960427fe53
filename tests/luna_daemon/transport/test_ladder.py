from __future__ import annotations

import os
import socket
from collections import Counter

import pytest
from luna_collection.luna_daemon.transport.arena import MEMFD, NAMED, has_memfd
from luna_collection.luna_daemon.transport.ladder import (
    CANARY_BYTES,
    INLINE,
    TIERS,
    canary,
    choose_tier,
    usable_tiers,
)
from luna_collection.luna_daemon.transport.tensors import ARENA_MIN_BYTES

UNIX, TCP = True, False


@pytest.mark.skipif(not has_memfd(), reason="this platform has no memfd")
@pytest.mark.parametrize(
    ("wanted", "over_unix_socket", "tiers"),
    [
        ("auto", UNIX, (MEMFD, NAMED, INLINE)),
        ("auto", TCP, (NAMED, INLINE)),
        ("memfd", UNIX, (MEMFD, INLINE)),
        ("memfd", TCP, (INLINE,)),
        ("named", UNIX, (NAMED, INLINE)),
        ("named", TCP, (NAMED, INLINE)),
        ("inline", UNIX, (INLINE,)),
        ("inline", TCP, (INLINE,)),
    ],
)
def test_the_tiers_of_a_connection_with_memfd(
    wanted: str, over_unix_socket: bool, tiers: tuple[str, ...]
) -> None:
    assert usable_tiers(wanted, over_unix_socket) == tiers


@pytest.mark.parametrize(
    ("wanted", "tiers"),
    [
        ("auto", (NAMED, INLINE)),
        ("memfd", (INLINE,)),
        ("named", (NAMED, INLINE)),
        ("inline", (INLINE,)),
    ],
)
def test_the_tiers_of_a_connection_without_memfd(
    monkeypatch: pytest.MonkeyPatch, wanted: str, tiers: tuple[str, ...]
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert usable_tiers(wanted, UNIX) == tiers


def test_where_there_is_memfd_there_are_sockets_to_pass_it() -> None:
    assert not has_memfd() or hasattr(socket, "send_fds")


@pytest.mark.parametrize(
    ("ours", "theirs", "tier"),
    [
        ((MEMFD, NAMED, INLINE), (MEMFD, NAMED, INLINE), MEMFD),
        ((MEMFD, NAMED, INLINE), (NAMED, INLINE), NAMED),
        ((NAMED, INLINE), (MEMFD, NAMED, INLINE), NAMED),
        ((MEMFD, INLINE), (NAMED, INLINE), INLINE),
        ((INLINE,), (MEMFD, NAMED, INLINE), INLINE),
        ((MEMFD, NAMED, INLINE), (INLINE, NAMED), NAMED),
        ((MEMFD, NAMED, INLINE), ("cuda", "teleport", NAMED, INLINE), NAMED),
        ((MEMFD, NAMED, INLINE), ("teleport",), INLINE),
        ((MEMFD, NAMED, INLINE), (), INLINE),
        (("cuda", MEMFD, INLINE), ("cuda", MEMFD, INLINE), "cuda"),
    ],
    ids=[
        "same machine",
        "client over TCP",
        "daemon without memfd",
        "nothing in common",
        "daemon set to inline",
        "the client's order does not count",
        "tiers we do not offer",
        "only unknown tiers",
        "none at all",
        "both ends have cuda",
    ],
)
def test_the_best_common_tier_is_chosen(
    ours: tuple[str, ...], theirs: tuple[str, ...], tier: str
) -> None:
    assert choose_tier(ours, theirs) == tier


def test_no_one_offers_cuda_yet() -> None:
    assert "cuda" in TIERS
    assert "cuda" not in usable_tiers("auto", UNIX)


def test_a_canary_is_large_enough_for_an_arena() -> None:
    assert ARENA_MIN_BYTES <= len(canary(1)) == CANARY_BYTES


def test_both_ends_know_the_same_canary() -> None:
    assert canary(7) == canary(7)


def test_no_two_canaries_are_alike() -> None:
    assert len({canary(seed) for seed in range(50)}) == 50


def test_a_canary_shows_a_shift_of_its_bytes() -> None:
    pattern = canary(3)
    windows = Counter(pattern[i : i + 8] for i in range(len(pattern) - 8))
    assert max(windows.values()) == 1
