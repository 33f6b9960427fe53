"""A strict reader of the text exposition format 0.0.4, for tests.

It follows https://prometheus.io/docs/instrumenting/exposition_formats/ and refuses what a scraper would
refuse or silently misread; it knows nothing of the code that writes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
_META = re.compile(rf"# (HELP|TYPE) ({NAME}) (.*)")
_SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
_HELP = re.compile(r"(?:[^\\]|\\[\\n])*")
_PAIR = re.compile(rf'({LABEL})="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_UNESCAPED = {'\\"': '"', "\\\\": "\\", "\\n": "\n"}

Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class Page:
    """What a page says."""

    types: dict[str, str] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)
    samples: dict[Series, float] = field(default_factory=dict)

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, tuple(sorted(labels.items()))]

    def total(self, name: str) -> float:
        return sum(value for (sample, _), value in self.samples.items() if sample == name)


def parse(text: str) -> Page:
    """Read a page.

    Raises:
        ValueError: It breaks a rule of the format.
    """
    page = Page()
    _need(not text or text.endswith("\n"), "the last line must end with a line feed")
    current, closed = "", set()
    for line in text.split("\n")[:-1]:
        meta, sample = _META.fullmatch(line), _SAMPLE.fullmatch(line)
        _need(bool(meta or sample), f"not a line of the format: {line!r}")
        name = meta.group(2) if meta else _family(sample.group(1), page.types)
        if name != current:
            _need(name not in closed, f"the lines of {name} are not one group")
            closed.add(current)
            current = name
        if meta:
            _read_meta(page, *meta.groups())
        else:
            _need(name in page.types, f"{name} has no TYPE before its samples")
            _read_sample(page, sample)
    for name, kind in page.types.items():
        if kind == "histogram":
            _check_histogram(page, name)
    return page


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _family(sample: str, types: dict[str, str]) -> str:
    for suffix in ("_bucket", "_sum", "_count"):
        base = sample.removesuffix(suffix)
        if base != sample and types.get(base) == "histogram":
            return base
    return sample


def _read_meta(page: Page, kind: str, name: str, text: str) -> None:
    known = page.helps if kind == "HELP" else page.types
    _need(name not in known, f"{name} has a second {kind}")
    if kind == "TYPE":
        _need(text in ("counter", "gauge", "histogram", "summary", "untyped"), f"type {text}")
    else:
        _need(bool(_HELP.fullmatch(text)), f"a bad escape in the help of {name}")
    known[name] = text


def _read_sample(page: Page, match: re.Match[str]) -> None:
    name, inside, number = match.groups()
    pairs, position = [], 0
    while inside and position < len(inside):
        pair = _PAIR.match(inside, position)
        _need(pair is not None, f"bad labels: {inside!r}")
        value = re.sub(r'\\["\\n]', lambda m: _UNESCAPED[m.group()], pair.group(2))
        pairs.append((pair.group(1), value))
        position = pair.end()
    _need(len({label for label, _ in pairs}) == len(pairs), f"a label twice: {inside!r}")
    series = (name, tuple(sorted(pairs)))
    _need(series not in page.samples, f"twice: {series}")
    page.samples[series] = _number(number)


def _number(text: str) -> float:
    special = {"+Inf": math.inf, "-Inf": -math.inf, "NaN": math.nan}
    if text in special:
        return special[text]
    _need(bool(re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", text)), f"not a number: {text}")
    return float(text)


def _check_histogram(page: Page, name: str) -> None:
    groups: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    _need((name, ()) not in page.samples, f"{name} has a sample without a suffix")
    for (sample, labels), value in page.samples.items():
        if sample == f"{name}_bucket":
            bound = dict(labels)["le"]
            others = tuple(pair for pair in labels if pair[0] != "le")
            groups.setdefault(others, []).append((_number(bound), value))
    for labels, buckets in groups.items():
        bounds, counts = zip(*buckets, strict=True)
        _need(list(bounds) == sorted(bounds), f"{name}: buckets out of order")
        _need(list(counts) == sorted(counts), f"{name}: counts go down")
        _need(bounds[-1] == math.inf, f"{name} has no +Inf bucket")
        _need(page.samples[f"{name}_count", labels] == counts[-1], f"{name}: count is not +Inf's")
        _need((f"{name}_sum", labels) in page.samples, f"{name} has no sum")
