"""The status as a person sees it, in a terminal of 100 columns."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from luna_collection.luna_daemon.monitoring.status_tables import RequestRate, render
from rich.console import Console

GIB = 2**30
MODEL = {
    "key": "0" * 64,
    "role": "clip_g",
    "name": "stable-diffusion-xl-base-1.0/text_encoder_2",
    "precision": "file",
    "nbytes": 1390 * 2**20,
    "place": "device",
    "workflows": ["portraits", "landscapes"],
}
SNAPSHOT: dict[str, Any] = {
    "version": "0.1.0",
    "boot_id": "ab",
    "pid": 4242,
    "rss_bytes": 62 * 2**20,
    "uptime_s": 86400.5,
    "state": "running",
    "service_type": "full",
    "engine": "hf",
    "requests": {
        "finished": 12345,
        "failed": 7,
        "cancelled": 3,
        "waiting": 12,
        "cache_hit_rate": 0.7512,
        "demotions": 2,
    },
    "answer_cache": {"entries": 5, "nbytes": 1, "hits": 4},
    "devices": {
        "cuda:0": {
            "budget_bytes": 22 * GIB,
            "weight_bytes": 8 * GIB,
            "reserved_bytes": 9 * GIB,
            "asleep_bytes": 3 * GIB,
            "waiting": 12,
            "queue_wait": {"count": 5, "p50_ms": 1.25, "p99_ms": 310.0},
            "workers": [
                {
                    "name": "cuda:0/0",
                    "pid": 4243,
                    "state": "busy",
                    "deaths": 2,
                    "last_death": "it gave no sign of life for 30 s",
                    "rss_bytes": 3 * GIB,
                    "torch": "2.9.0",
                    "models": [MODEL],
                    "conditioning_cache": {"entries": 9, "nbytes": 1, "hits": 7, "misses": 9},
                }
            ],
        },
        "cpu": {
            "budget_bytes": 16 * GIB,
            "weight_bytes": 0,
            "reserved_bytes": 0,
            "asleep_bytes": 0,
            "waiting": 0,
            "queue_wait": None,
            "workers": [],
        },
    },
    "workflows": [
        {
            "workflow_id": "portraits",
            "session": 1,
            "model_type": "SDXL",
            "models": {"clip_l": "a", "clip_g": "b", "vae": "c"},
            "lost": False,
        }
    ],
    "sessions": [{"session": 1, "pid": 1, "transport": "memfd", "requests": 0}],
    "counters": {"request_failure{operation=encode_text,reason=WORKER_DIED}": 7, "cancelled": 3},
    "durations": {"compute{operation=encode_text}": {"count": 9, "p50_ms": 11.0, "p99_ms": 20.5}},
}


def shown(snapshot: dict[str, Any], per_second: float | None = None, width: int = 100) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as captured:
        console.print(render(snapshot, per_second))
    return captured.get()


def test_the_numbers_that_matter_are_in_it_at_100_columns() -> None:
    text = shown(SNAPSHOT, 2.345)
    assert max(len(line) for line in text.splitlines()) <= 100
    for part in (
        *("12345 requests", "2.3/s", "7 failed", "3 cancelled", "12 waiting"),
        *("cache hits 75%", "4 without a worker", "demotions 2"),
        *("1.2 ", "310.0", "8192", "9216", "22528", "3072", "cuda:0/0", "busy"),
        "it gave no sign of life for 30 s",
        *("9 (7 hits)", "portraits", "clip_l, clip_g, vae", "memfd"),
        "request_failure{operation=encode_text,reason=WORKER_DIED}",
        "compute{operation=encode_text}",
    ):
        assert part in text, part


def test_a_model_that_sleeps_in_ram_is_shown_so() -> None:
    snapshot = copy.deepcopy(SNAPSHOT)
    assert "asleep" not in shown(snapshot).partition("Models in memory")[2]
    snapshot["devices"]["cuda:0"]["workers"][0]["models"][0]["place"] = "ram"
    assert "asleep" in shown(snapshot).partition("Models in memory")[2]


def test_a_line_fits_and_each_title_stands_once() -> None:
    text = shown(SNAPSHOT)
    lines = text.splitlines()
    assert lines[0].startswith("Luna daemon 0.1.0 · running · pid 4242")
    assert lines[1].startswith("12345 requests · 7 failed")
    for title in ("Devices", "Workers", "Models in memory", "Workflows", "Since the start"):
        assert [line.strip() for line in lines].count(title) == 1


def test_a_daemon_that_has_done_nothing_yet_can_be_shown() -> None:
    fresh = copy.deepcopy(SNAPSHOT)
    fresh["requests"]["cache_hit_rate"] = None
    fresh.update(workflows=[], sessions=[], counters={}, durations={})
    fresh["devices"]["cuda:0"]["workers"] = []
    text = shown(fresh)
    assert "cache hits none yet" in text
    assert "cuda:0" in text


@pytest.mark.parametrize("evil", ["[red]x[/red]", "[/]", "a\x1b[2Jb", "a\nb", "\u202e"])
def test_names_of_clients_do_nothing_to_the_terminal(evil: str) -> None:
    snapshot = copy.deepcopy(SNAPSHOT)
    snapshot["workflows"][0]["workflow_id"] = evil
    snapshot["devices"]["cuda:0"]["workers"][0]["models"][0]["workflows"] = [evil]
    text = shown(snapshot)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "".join(c if c.isprintable() else "?" for c in evil) in text


def test_the_rate_is_what_was_answered_in_between() -> None:
    rate, later = RequestRate(), copy.deepcopy(SNAPSHOT)
    later["requests"].update(finished=12345 + 8, failed=7 + 2)
    assert rate.since_the_last(SNAPSHOT, 100.0) is None
    assert rate.since_the_last(later, 104.0) == 2.5
    assert rate.since_the_last(later, 104.0) is None


def test_a_daemon_that_was_started_anew_has_no_rate_yet() -> None:
    rate, other = RequestRate(), {**copy.deepcopy(SNAPSHOT), "boot_id": "cd"}
    rate.since_the_last(SNAPSHOT, 100.0)
    assert rate.since_the_last(other, 101.0) is None
    assert rate.since_the_last(other, 102.0) == 0
