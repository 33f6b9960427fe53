from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.luna_daemon.monitoring.exposition import render
from luna_collection.luna_daemon.monitoring.metric_families import (
    COUNTER,
    FAMILIES,
    GAUGE,
    HISTOGRAM,
    Family,
)
from luna_collection.luna_daemon.monitoring.metrics import Histogram, Metrics, Sample

from .exposition_text import parse

BYTES = Family("bytes", COUNTER, "Bytes of tensors.", ("tier", "direction"))
QUEUE = Family("queue", HISTOGRAM, "Waiting.", ("device",), (0.005, 1.0, 120.0))
LEASES = Family("leases", GAUGE, "Claims.")


def waited(*seconds: float) -> Histogram:
    histogram = Histogram(QUEUE.bounds)
    for value in seconds:
        histogram.observe(value)
    return histogram


def test_the_text_is_the_one_that_the_format_asks_for() -> None:
    samples = [
        Sample("queue", ("cpu",), waited(0.001, 0.5, 300.0)),
        Sample("bytes", ("memfd", "out"), 7),
        Sample("leases", (), 2),
        Sample("bytes", ("inline", "in"), 2**60),
    ]
    assert render((BYTES, QUEUE, LEASES), samples) == (
        "# HELP luna_bytes_total Bytes of tensors.\n"
        "# TYPE luna_bytes_total counter\n"
        'luna_bytes_total{tier="inline",direction="in"} 1152921504606846976\n'
        'luna_bytes_total{tier="memfd",direction="out"} 7\n'
        "# HELP luna_queue_seconds Waiting.\n"
        "# TYPE luna_queue_seconds histogram\n"
        'luna_queue_seconds_bucket{device="cpu",le="0.005"} 1\n'
        'luna_queue_seconds_bucket{device="cpu",le="1"} 2\n'
        'luna_queue_seconds_bucket{device="cpu",le="120"} 2\n'
        'luna_queue_seconds_bucket{device="cpu",le="+Inf"} 3\n'
        'luna_queue_seconds_sum{device="cpu"} 300.501\n'
        'luna_queue_seconds_count{device="cpu"} 3\n'
        "# HELP luna_leases Claims.\n"
        "# TYPE luna_leases gauge\n"
        "luna_leases 2\n"
    )


def test_a_family_without_samples_is_named() -> None:
    text = render((LEASES,), [])
    assert text == "# HELP luna_leases Claims.\n# TYPE luna_leases gauge\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('a"b', r"a\"b"),
        ("a\\b", r"a\\b"),
        ("a\nb", r"a\nb"),
        ("\\n", r"\\n"),
        ("ä→", "ä→"),
        ("", ""),
        ("{},=", "{},="),
    ],
)
def test_label_values_are_escaped(value: str, shown: str) -> None:
    text = render((BYTES,), [Sample("bytes", (value, "in"), 1)])
    assert f'tier="{shown}",direction' in text
    assert parse(text).value("luna_bytes_total", tier=value, direction="in") == 1


def test_help_is_escaped_and_keeps_its_quotes() -> None:
    family = Family("a", GAUGE, 'back\\slash, "quotes"\nand a line')
    text = render((family,), [Sample("a", (), 1)])
    assert '# HELP luna_a back\\\\slash, "quotes"\\nand a line\n' in text
    assert parse(text).value("luna_a") == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0, "0"),
        (1.5, "1.5"),
        (-2.0, "-2"),
        (2**63 + 1, "9223372036854775809"),
        (1e22, "1e+22"),
        (0.00025, "0.00025"),
        (1e-7, "1e-07"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_written_as_a_scraper_reads_them(value: float, shown: str) -> None:
    text = render((LEASES,), [Sample("leases", (), value)])
    assert text.splitlines()[-1] == f"luna_leases {shown}"
    parse(text)


@pytest.mark.parametrize(
    "samples",
    [
        [Sample("bytes", ("a", "in"), 1), Sample("bytes", ("a", "in"), 2)],
        [Sample("bites", ("a", "in"), 1)],
        [Sample("bytes", ("a",), 1)],
        [Sample("bytes", ("a", "in", "b"), 1)],
    ],
    ids=["twice", "unknown", "too few labels", "too many labels"],
)
def test_samples_that_do_not_fit_are_an_error(samples: list[Sample]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (zip has a text of its own)
        render((BYTES,), samples)


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(st.tuples(st.text(), st.text()), st.integers(0, 2**70), max_size=8),
    st.lists(st.floats(0, 200), max_size=20),
)
def test_whatever_is_written_is_read_back(
    counts: dict[tuple[str, str], int], seconds: list[float]
) -> None:
    samples = [Sample("bytes", labels, number) for labels, number in counts.items()]
    page = parse(render((BYTES, QUEUE), [*samples, Sample("queue", ("cpu",), waited(*seconds))]))
    for (tier, direction), number in counts.items():
        assert page.value("luna_bytes_total", tier=tier, direction=direction) == float(number)
    assert page.value("luna_queue_seconds_count", device="cpu") == len(seconds)
    assert page.value("luna_queue_seconds_sum", device="cpu") == pytest.approx(sum(seconds))


def test_the_daemons_own_table_can_be_rendered() -> None:
    metrics = Metrics()
    metrics.count("request_failure", operation="encode_text", reason="OOM")
    metrics.observe("request", 0.2, operation="encode_text")
    page = parse(render(FAMILIES, metrics.samples()))
    assert page.types == {family.exposed_name: family.kind for family in FAMILIES}
    assert page.value("luna_cancelled_total") == 0
    labels = {"operation": "encode_text", "reason": "OOM"}
    assert page.value("luna_request_failure_total", **labels) == 1


@pytest.mark.parametrize(
    "text",
    [
        "luna_a 1",
        "luna_a 1\n",
        "# TYPE luna_a gauge\nluna_a 1\nluna_a 2\n",
        "# TYPE luna_a gauge\n# TYPE luna_b gauge\nluna_a 1\n",
        '# TYPE luna_a gauge\nluna_a{b="\\q"} 1\n',
        '# TYPE luna_a gauge\nluna_a{b="1",b="2"} 1\n',
        "# TYPE luna_a gauge\nluna_a one\n",
        '# TYPE luna_a histogram\nluna_a_bucket{le="1"} 1\nluna_a_sum 1\nluna_a_count 1\n',
    ],
    ids=[
        *("no line feed", "no type", "twice", "not one group", "bad escape", "a label twice"),
        *("no number", "no +Inf"),
    ],
)
def test_the_reader_of_these_tests_is_strict(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        parse(text)
