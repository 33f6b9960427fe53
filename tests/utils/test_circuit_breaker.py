from __future__ import annotations

import pytest
from luna_collection.utils.circuit_breaker import CircuitBreaker


def test_it_lets_through_until_failures_in_a_row_reach_the_limit():
    breaker = CircuitBreaker(limit=3, pause_s=10)
    for _ in range(2):
        breaker.failed(now=0)
    assert breaker.allows(now=0)
    breaker.failed(now=0)
    assert not breaker.allows(now=9.9)


def test_after_the_pause_it_lets_through_again():
    breaker = CircuitBreaker(limit=1, pause_s=10)
    breaker.failed(now=100)
    assert (breaker.allows(109.9), breaker.allows(110)) == (False, True)
    assert breaker.waits_s(104) == 6


@pytest.mark.parametrize(("failures", "pause"), [(1, 10), (2, 20), (3, 40), (4, 60), (5000, 60)])
def test_every_further_failure_doubles_the_pause_up_to_the_longest(failures, pause):
    breaker = CircuitBreaker(limit=1, pause_s=10, longest_pause_s=60)
    for _ in range(failures):
        breaker.failed(now=0)
    assert breaker.waits_s(0) == pause


def test_a_success_forgets_the_failures():
    breaker = CircuitBreaker(limit=2, pause_s=10)
    breaker.failed(0)
    breaker.failed(0)
    breaker.succeeded()
    breaker.failed(0)
    assert (breaker.allows(0), breaker.waits_s(0)) == (True, 0)
