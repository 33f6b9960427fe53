"""Which way tensors travel on one connection, and how a way is proved before it is used.

The tiers, best first: `cuda` (memory of one GPU; there is no module for it on this platform yet, so
nobody offers it), `memfd` and `named` (an arena in shared memory), `inline` (bytes in the frame).
A tier is used only after a canary: a patterned tensor that went through the production path, client →
worker → client, and came back equal. A tier that fails is demoted, and the person is told.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from .arena import MEMFD, NAMED, has_memfd

INLINE = "inline"
TIERS = ("cuda", MEMFD, NAMED, INLINE)
CANARY_BYTES = 96 * 1024  # large enough to go through an arena


def usable_tiers(wanted: str, over_unix_socket: bool) -> tuple[str, ...]:
    """Return the tiers that this end can use on a connection, best first.

    Args:
        wanted: The setting `transport`: auto, or the only tier to use besides inline.
        over_unix_socket: Is it a unix socket? A memfd can only be passed over one.
    """
    tiers = [MEMFD] if has_memfd() and over_unix_socket else []
    tiers += [NAMED, INLINE]
    return tuple(t for t in tiers if wanted in ("auto", t) or t == INLINE)


def choose_tier(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Return the best tier that both ends can use."""
    return next((tier for tier in TIERS if tier in ours and tier in theirs), INLINE)


def canary(seed: int) -> bytes:
    """Return the pattern that is sent to prove a tier: no two seeds and no two offsets look alike."""
    return random.Random(seed).randbytes(CANARY_BYTES)
