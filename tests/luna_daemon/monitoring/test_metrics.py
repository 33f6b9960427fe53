from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.luna_daemon.monitoring.metric_families import COUNTER, GAUGE, HISTOGRAM, Family
from luna_collection.luna_daemon.monitoring.metrics import (
    WINDOW,
    Histogram,
    Metrics,
    Sample,
    percentile,
)

FAMILIES = (
    Family("requests", COUNTER, "…"),
    Family("bytes", COUNTER, "…", ("way", "direction")),
    Family("a", COUNTER, "…"),
    Family("pending", GAUGE, "…"),
    Family("compute", HISTOGRAM, "…", ("operation",), (0.1, 1.0)),
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(FAMILIES)


def test_a_counter_adds_up(metrics):
    metrics.count("requests")
    metrics.count("requests", 4)
    assert metrics.counters() == {"requests": 5}


def test_labels_count_apart(metrics):
    metrics.count("bytes", 10, way="shm", direction="in")
    metrics.count("bytes", 20, way="inline", direction="in")
    assert metrics.counters() == {
        "bytes{direction=in,way=inline}": 20,
        "bytes{direction=in,way=shm}": 10,
    }


def test_the_order_of_labels_does_not_matter(metrics):
    metrics.count("bytes", way="shm", direction="in")
    metrics.count("bytes", direction="in", way="shm")
    assert metrics.counters() == {"bytes{direction=in,way=shm}": 2}


def test_counters_are_listed_by_name(metrics):
    metrics.count("requests")
    metrics.count("bytes", way="shm", direction="in")
    metrics.count("a")
    assert list(metrics.counters()) == ["a", "bytes{direction=in,way=shm}", "requests"]


def test_a_total_adds_up_over_the_labels_that_are_not_named(metrics):
    metrics.count("bytes", 1, way="shm", direction="in")
    metrics.count("bytes", 2, way="shm", direction="out")
    metrics.count("bytes", 4, way="inline", direction="in")
    assert metrics.total("bytes") == 7
    assert metrics.total("bytes", way="shm") == 3
    assert metrics.total("bytes", way="shm", direction="out") == 2
    assert metrics.total("requests") == 0


def test_nothing_counted_is_nothing(metrics):
    assert (metrics.counters(), metrics.durations()) == ({}, {})
    assert metrics.duration("compute", operation="echo") is None


def test_durations_have_count_median_and_the_slow_end(metrics):
    for milliseconds in range(1, 201):
        metrics.observe("compute", milliseconds / 1000, operation="echo")
    summary = {"count": 200, "p50_ms": 100, "p99_ms": 198}
    assert metrics.durations() == {"compute{operation=echo}": summary}
    assert metrics.duration("compute", operation="echo") == summary


def test_durations_are_rounded_to_microseconds(metrics):
    metrics.observe("compute", 0.00123456, operation="echo")
    assert metrics.durations()["compute{operation=echo}"]["p50_ms"] == 1.235


def test_old_durations_are_forgotten_but_counted(metrics):
    metrics.observe("compute", 1e6, operation="echo")
    for _ in range(WINDOW):
        metrics.observe("compute", 0.001, operation="echo")
    summary = {"count": WINDOW + 1, "p50_ms": 1.0, "p99_ms": 1.0}
    assert metrics.duration("compute", operation="echo") == summary


@pytest.mark.parametrize(
    ("seconds", "cumulative"),
    [(0.0, [1, 1, 1]), (0.1, [1, 1, 1]), (0.10001, [0, 1, 1]), (1.0, [0, 1, 1]), (1.1, [0, 0, 1])],
)
def test_a_bucket_holds_what_is_not_above_its_bound(seconds, cumulative):
    histogram = Histogram((0.1, 1.0))
    histogram.observe(seconds)
    assert histogram.cumulative() == cumulative


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 2), max_size=40))
def test_buckets_and_sum_agree_with_a_plain_count(values):
    histogram = Histogram((0.1, 0.5, 1.0))
    for value in values:
        histogram.observe(value)
    bounds = (0.1, 0.5, 1.0, math.inf)
    assert histogram.cumulative() == [sum(v <= bound for v in values) for bound in bounds]
    assert histogram.count == len(values)
    assert histogram.total == pytest.approx(math.fsum(values))


def test_samples_hold_everything_and_plain_counters_begin_at_zero(metrics):
    metrics.count("bytes", 3, way="shm", direction="in")
    metrics.count("a", 2)
    metrics.observe("compute", 0.5, operation="echo")
    samples = list(metrics.samples())
    assert samples[:3] == [
        Sample("requests", (), 0),
        Sample("a", (), 2),
        Sample("bytes", ("shm", "in"), 3),
    ]
    assert [(s.name, s.labels, s.value.count) for s in samples[3:]] == [("compute", ("echo",), 1)]
    assert "requests" not in metrics.counters(), "asking for samples counts nothing"


def test_a_name_that_is_not_in_the_table_is_an_error(metrics):
    with pytest.raises(KeyError, match="reqests"):
        metrics.count("reqests")
    with pytest.raises(KeyError, match="reqests"):
        metrics.total("reqests")


@pytest.mark.parametrize(
    "labels",
    [{}, {"way": "shm"}, {"way": "shm", "direction": "in", "workflow": "w"}, {"wey": "shm"}],
    ids=["none", "too few", "too many", "misspelt"],
)
def test_other_labels_than_the_table_has_are_an_error(metrics, labels):
    with pytest.raises(ValueError, match="'bytes' is a counter with the labels"):
        metrics.count("bytes", **labels)


def test_a_counter_is_no_duration_and_a_gauge_is_not_counted(metrics):
    with pytest.raises(ValueError, match="is a counter"):
        metrics.observe("requests", 1.0)
    with pytest.raises(ValueError, match="is a histogram"):
        metrics.count("compute", operation="echo")
    with pytest.raises(ValueError, match="is a gauge"):
        metrics.count("pending")


@pytest.mark.parametrize(
    ("values", "percent", "result"),
    [
        ([], 50, 0.0),
        ([7.0], 50, 7.0),
        ([7.0], 99, 7.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 51, 3.0),
        ([1.0, 2.0], 0, 1.0),
        ([1.0, 2.0], 100, 2.0),
    ],
)
def test_the_percentile_is_that_of_the_nearest_rank(values, percent, result):
    assert percentile(values, percent) == result


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.integers(1, 100))
def test_so_many_percent_are_not_above_the_percentile(values, percent):
    result = percentile(values, percent)
    assert result in values
    assert 100 * sum(v <= result for v in values) >= percent * len(values)
    assert 100 * sum(v < result for v in values) < percent * len(values)
