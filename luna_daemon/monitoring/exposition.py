"""Metrics as text that Prometheus reads: the text-based format, version 0.0.4.

Pure: samples in, text out.
Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence

from .metric_families import Family
from .metrics import Histogram, Labels, Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(families: Collection[Family], samples: Iterable[Sample]) -> str:
    """Return all families in their order, each with its samples in the order of their labels.

    A family without samples is named all the same: that it exists and has not happened is news too.

    Raises:
        ValueError: A sample belongs to no family, does not fit it, or comes twice.
    """
    by_family: dict[str, dict[Labels, float | Histogram]] = {f.name: {} for f in families}
    for sample in samples:
        series = by_family.get(sample.name)
        if series is None or sample.labels in series:
            raise ValueError(f"'{sample.name}' with {sample.labels} is unknown or comes twice.")
        series[sample.labels] = sample.value
    lines = [line for f in families for line in _family_lines(f, by_family[f.name])]
    return "".join(f"{line}\n" for line in lines)


def _family_lines(family: Family, series: dict[Labels, float | Histogram]) -> Iterator[str]:
    name = family.exposed_name
    yield f"# HELP {name} {_escape(family.meaning)}"
    yield f"# TYPE {name} {family.kind}"
    for values, value in sorted(series.items(), key=lambda item: item[0]):
        pairs = list(zip(family.labels, values, strict=True))
        if isinstance(value, Histogram):
            yield from _histogram_lines(name, pairs, value)
        else:
            yield f"{name}{_labels(pairs)} {_number(value)}"


def _histogram_lines(
    name: str, pairs: Sequence[tuple[str, str]], histogram: Histogram
) -> Iterator[str]:
    bounds = (*histogram.bounds, math.inf)
    for bound, count in zip(bounds, histogram.cumulative(), strict=True):
        yield f"{name}_bucket{_labels([*pairs, ('le', _number(bound))])} {count}"
    yield f"{name}_sum{_labels(pairs)} {_number(histogram.total)}"
    yield f"{name}_count{_labels(pairs)} {histogram.count}"


def _labels(pairs: Sequence[tuple[str, str]]) -> str:
    shown = ",".join(f'{name}="{_escape_value(value)}"' for name, value in pairs)
    return f"{{{shown}}}" if shown else ""


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escape_value(text: str) -> str:
    return _escape(text).replace('"', '\\"')


def _number(value: float) -> str:
    """As Go's ParseFloat reads it. Whole numbers stay whole, however large."""
    if isinstance(value, int):
        return str(value)
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
