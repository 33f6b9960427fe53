"""How long one waits for the daemon itself: a round trip without work, and a text that it knows."""

from __future__ import annotations

from collections.abc import Iterator

from ..clocks import wall_p50
from ..entries import LOWER, Bench, Entry, ratio_entry
from ..models import CLIP_L, make_text_encoder
from ..pairs import compare
from .children import connected_child
from .echo_server import EchoClient
from .private_daemon import PrivateDaemon, register_sd15

CALLS = 200  # in a row, before the other side's turn
GOAL_ROUND_TRIP = 1.5
GOAL_CACHE_HIT = 3.0
_TEXT = "a lighthouse in a storm"


def measure_round_trip(bench: Bench) -> Iterator[Entry]:
    """Compare `DaemonClient.ping` with an echo by another asyncio server."""
    with PrivateDaemon(bench.folder) as daemon, daemon.client() as client:
        for kind, goal, what in (
            ("streams", GOAL_ROUND_TRIP, "asyncio streams"),
            ("callbacks", None, "a bare reader callback, without tasks"),
        ):
            with connected_child("echo_server", kind) as (sock, _):
                echo = EchoClient(sock)
                result = compare(
                    lambda: wall_p50(client.ping, CALLS),
                    lambda echo=echo: wall_p50(echo.call, CALLS),  # type: ignore[misc]
                    bench.plan,
                    bench.tell_pair,
                )
            yield ratio_entry(
                f"control round trip / echo with {kind}",
                result,
                goal,
                LOWER,
                f"Wall p50 of DaemonClient.ping over a unix socket against a process that decodes "
                f"and returns 100 bytes of JSON with {what}; blocks of {CALLS} calls take turns.",
            )


def measure_cache_hit(bench: Bench) -> Iterator[Entry]:
    """Compare a text that is in the conditioning cache with a round trip without work."""
    encoder = make_text_encoder(bench.folder / "models" / "clip-l", CLIP_L)
    with (
        PrivateDaemon(bench.folder, model_roots=bench.folder / "models") as daemon,
        daemon.client() as client,
    ):
        register_sd15([client], "hits", encoder)

        def encode() -> None:
            client.clip_encode(_TEXT, workflow_id="hits-0")

        encode()
        if not client.clip_encode(_TEXT, workflow_id="hits-0").cache_hit:
            raise ValueError("The daemon did not find a text again that it had just encoded.")
        result = compare(
            lambda: wall_p50(encode, CALLS),
            lambda: wall_p50(client.ping, CALLS),
            bench.plan,
            bench.tell_pair,
        )
    yield ratio_entry(
        "repeated prompt / control round trip",
        result,
        GOAL_CACHE_HIT,
        LOWER,
        "Wall p50 of clip_encode of a text in the cache (CLIP-L, 236 kB of conditioning) against "
        f"DaemonClient.ping on the same connection; blocks of {CALLS} calls take turns.",
    )
