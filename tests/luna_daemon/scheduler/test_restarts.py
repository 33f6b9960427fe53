from __future__ import annotations

import pytest
from luna_collection.luna_daemon.scheduler.restarts import (
    BUDGET,
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    WINDOW_S,
    CrashBudget,
)


def died(*times: float) -> CrashBudget:
    budget = CrashBudget()
    for now in times:
        budget.record(now)
    return budget


@pytest.mark.parametrize(
    ("deaths", "delay"),
    [
        (0, 0.0),
        (1, 0.0),
        (2, 0.2),
        (3, 0.4),
        (4, 0.8),
        (5, 1.6),
        (9, 25.6),
        (10, 30.0),
        (500, 30.0),
    ],
)
def test_the_delay_doubles_with_every_death_up_to_a_limit(deaths: int, delay: float):
    assert died(*[0.0] * deaths).delay(0.0) == pytest.approx(delay)


def test_the_limits_are_those_of_the_table():
    assert (FIRST_DELAY_S, LONGEST_DELAY_S) == (0.2, 30.0)


@pytest.mark.parametrize(
    ("deaths", "exhausted"), [(0, False), (BUDGET, False), (BUDGET + 1, True), (BUDGET + 100, True)]
)
def test_too_many_deaths_exhaust_the_budget(deaths: int, exhausted: bool):
    assert died(*[0.0] * deaths).exhausted(0.0) is exhausted


@pytest.mark.parametrize(
    ("later", "exhausted"), [(WINDOW_S - 1, True), (WINDOW_S, True), (WINDOW_S + 0.1, False)]
)
def test_deaths_are_forgotten_after_the_window(later: float, exhausted: bool):
    assert died(*[0.0] * (BUDGET + 1)).exhausted(later) is exhausted


def test_a_death_long_ago_delays_nothing():
    assert died(0.0, 0.0, 0.0).delay(WINDOW_S + 1) == 0.0


def test_only_old_deaths_are_forgotten():
    budget = died(0.0, 0.0, 100.0, 100.0, 100.0)
    assert budget.delay(WINDOW_S + 1) == pytest.approx(0.4)


def test_rare_deaths_never_exhaust_the_budget():
    times = [n * WINDOW_S for n in range(100)]
    assert died(*times).exhausted(times[-1]) is False


def test_the_total_counts_forgotten_deaths_too():
    budget = died(*[0.0] * 3)
    budget.delay(WINDOW_S * 10)
    assert budget.total == 3
