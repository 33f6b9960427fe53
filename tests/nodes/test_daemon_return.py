"""When loaders run again after the daemon was lost, or was not there."""

from __future__ import annotations

import pytest
from luna_collection.nodes.daemon_return import DaemonReturn
from luna_collection.utils.circuit_breaker import CircuitBreaker


class Daemon:
    """What a DaemonReturn is told of the daemon."""

    def __init__(self) -> None:
        self.is_there = False
        self.lost = False
        self.asked = 0
        self.now = 0.0

    def answers(self) -> bool:
        self.asked += 1
        return self.is_there

    def was_lost(self) -> bool:
        lost, self.lost = self.lost, False
        return lost


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def comeback(daemon: Daemon) -> DaemonReturn:
    breaker = CircuitBreaker(pause_s=10)
    return DaemonReturn(breaker, daemon.answers, daemon.was_lost, lambda: daemon.now)


def test_while_all_is_well_nothing_runs_again_and_nobody_is_asked(comeback, daemon):
    assert [comeback.count(), comeback.count()] == [0, 0]
    assert daemon.asked == 0


def test_a_loader_that_lost_it_runs_again_once(comeback, daemon):
    daemon.lost = True
    assert [comeback.count(), comeback.count()] == [1, 1]


def test_a_loader_that_found_none_runs_again_when_one_is_there(comeback, daemon):
    comeback.miss()
    assert comeback.count() == 0
    daemon.is_there, daemon.now = True, 11
    assert [comeback.count(), comeback.count()] == [1, 1]


def test_a_daemon_that_stays_away_is_looked_for_ever_more_seldom(comeback, daemon):
    comeback.miss()
    for daemon.now in range(100):
        comeback.count()
    assert daemon.asked == 4  # after 0, 10, 30 and 70 s
