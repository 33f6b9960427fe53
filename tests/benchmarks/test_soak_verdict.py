from __future__ import annotations

import dataclasses

import pytest
from luna_collection.benchmarks.soak_area.killer import (
    CLIENT_KILLED,
    DAEMON_KILLED,
    WORKER_KILLED,
    WORKER_STOPPED,
    Incident,
)
from luna_collection.benchmarks.soak_area.measure import Holdings
from luna_collection.benchmarks.soak_area.tally import Tally, Trouble
from luna_collection.benchmarks.soak_area.verdict import Verdict, is_allowed, judge

HELD = Holdings(
    supervisor_rss=100,
    descriptors=12,
    threads=5,
    arenas=0,
    children=2,
    worker_rss=500,
    worker_descriptors=4,
    worker_arenas=0,
    shared_memory=(),
)


def trouble(code: str, kind: str = "good", started: float = 10.0, ended: float = 20.0) -> Trouble:
    return Trouble(kind, code, started, ended, "what it said")


def incident(kind: str, started: float = 12.0, ended: float = 13.0) -> Incident:
    return Incident(kind, started, ended)


@pytest.mark.parametrize(
    ("one", "incidents", "allowed"),
    [
        (trouble("WORKER_DIED"), [], False),
        (trouble("WORKER_DIED"), [incident(WORKER_KILLED)], False),
        (trouble("WORKER_DIED"), [incident(WORKER_KILLED), incident(WORKER_STOPPED)], True),
        (trouble("WORKER_DIED"), [incident(WORKER_KILLED), incident(CLIENT_KILLED)], False),
        (
            trouble("WORKER_DIED"),
            [incident(WORKER_KILLED, 1, 2), incident(WORKER_KILLED, 30, 31)],
            False,
        ),
        (trouble("UNREACHABLE"), [], False),
        (trouble("UNREACHABLE"), [incident(WORKER_KILLED)] * 2, False),
        (trouble("UNREACHABLE"), [incident(DAEMON_KILLED)], True),
        (trouble("CONNECTION_LOST"), [incident(DAEMON_KILLED, 20, 25)], True),
        (trouble("CONNECTION_LOST"), [incident(DAEMON_KILLED, 20.1, 25)], False),
        (trouble("INTERNAL"), [incident(DAEMON_KILLED)], False),
        (trouble("BAD_REQUEST"), [incident(DAEMON_KILLED)], False),
        (trouble("ConnectionRefusedError", "raw"), [incident(DAEMON_KILLED)], True),
        (trouble("ConnectionRefusedError", "raw"), [], False),
        (trouble("ConnectionRefusedError"), [incident(DAEMON_KILLED)], False),
        (trouble("BrokenPipeError", "raw"), [], True),
        (trouble("TimeoutError", "raw"), [], False),
    ],
)
def test_what_a_request_may_end_with_depends_on_what_was_done_just_then(
    one: Trouble, incidents: list[Incident], allowed: bool
) -> None:
    assert is_allowed(one, incidents) is allowed


def verdict(*troubles: Trouble, after: Holdings = HELD, left_over: tuple[str, ...] = ()) -> Verdict:
    return judge({"good right": 5}, troubles, [], (HELD, after), left_over)


def failed(found: Verdict) -> list[str]:
    return [check.name for check in found.checks if not check.passed]


def test_a_soak_without_trouble_is_passed() -> None:
    found = verdict()
    assert found.passed
    assert found.record()["passed"] is True
    assert found.record()["outcomes"] == {"good right": 5}


@pytest.mark.parametrize(
    ("code", "name"),
    [("WRONG", "wrong results"), ("HANG", "hangs"), ("INTERNAL", "lost requests")],
)
def test_one_bad_end_fails_the_soak_and_is_shown(code: str, name: str) -> None:
    found = verdict(trouble(code))
    assert failed(found) == [name]
    assert [one.code for one in found.lost] == [code]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"supervisor_rss": 111}, "supervisor's memory"),
        ({"descriptors": 13}, "supervisor's descriptors"),
        ({"arenas": 1}, "supervisor's arenas"),
        ({"children": 3}, "child processes"),
        ({"worker_arenas": 1}, "worker's arenas"),
        ({"worker_descriptors": 5}, "worker's descriptors"),
        ({"shared_memory": ("luna-1-a",)}, "names in shared memory"),
    ],
)
def test_what_the_daemon_holds_on_to_fails_the_soak(changes: dict, name: str) -> None:
    assert failed(verdict(after=dataclasses.replace(HELD, **changes))) == [name]


def test_memory_may_grow_a_little_and_what_is_not_bounded_freely() -> None:
    grown = dataclasses.replace(HELD, supervisor_rss=109, worker_rss=900, threads=9)
    assert verdict(after=grown).passed


def test_what_is_left_over_fails_the_soak() -> None:
    assert failed(verdict(left_over=("process 7",))) == ["left over at the end"]


def test_a_tally_gives_everything_once() -> None:
    tally = Tally()
    tally.count("good", "right")
    tally.tell(trouble("WRONG"))
    told = tally.drain()
    assert told["counts"] == {"good right": 1, "good WRONG": 1}
    assert [Trouble(**one) for one in told["troubles"]] == [trouble("WRONG")]
    assert tally.drain() == {"counts": {}, "troubles": [], "hanging": 0}


def test_a_tally_knows_the_calls_that_hang() -> None:
    tally = Tally()
    with tally.watched(-1000.0):
        assert tally.drain()["hanging"] == 1
    with tally.watched(1000.0):
        assert tally.drain()["hanging"] == 0
    assert tally.drain()["hanging"] == 0
