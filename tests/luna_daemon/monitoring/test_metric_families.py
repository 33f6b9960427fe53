"""The table of metrics, and that the code counts nothing that is not in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from luna_collection.luna_daemon.monitoring.metric_families import (
    COUNTER,
    FAMILIES,
    GAUGE,
    HISTOGRAM,
    Family,
    metrics_table,
)

CODE = Path(__file__).resolve().parents[3] / "luna_daemon"
BY_NAME = {family.name: family for family in FAMILIES}
# Labels whose values the daemon makes itself, so that there are few.
BOUNDED = {
    *("operation", "reason", "device", "role", "tier", "direction"),
    *("version", "engine", "service_type"),
}


def calls() -> Iterator[tuple[str, str, str, frozenset[str]]]:
    """Every `…metrics.count("name", label=…)` and `.observe(…)`: where, method, name, labels."""
    for path in sorted(CODE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr in ("count", "observe") and owner.endswith("metrics"):
                labels = frozenset(keyword.arg or "" for keyword in node.keywords)
                where = f"{path.relative_to(CODE).as_posix()}:{node.lineno}"
                for name in names(node.args[0]):
                    yield where, node.func.attr, name, labels


def names(node: ast.expr) -> list[str]:
    """The constants that a call's first argument can be; none for a variable."""
    if isinstance(node, ast.IfExp):
        return names(node.body) + names(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) else []


CALLS = list(calls())


@pytest.mark.parametrize(
    ("method", "name", "labels"), [call[1:] for call in CALLS], ids=[call[0] for call in CALLS]
)
def test_what_is_counted_is_in_the_table(method: str, name: str, labels: frozenset[str]) -> None:
    assert name in BY_NAME, "give it a line in luna_daemon/monitoring/metric_families.py"
    assert BY_NAME[name].kind == {"count": COUNTER, "observe": HISTOGRAM}[method]
    assert labels - {"amount"} == set(BY_NAME[name].labels)


def test_every_metric_of_the_table_is_used() -> None:
    text = "\n".join(p.read_text("utf-8") for p in CODE.rglob("*.py") if "families" not in p.name)
    assert [f.name for f in FAMILIES if f'"{f.name}"' not in text] == []


def test_no_two_metrics_share_a_name_also_with_what_a_histogram_adds() -> None:
    exposed = [name for family in FAMILIES for name in sample_names(family)]
    assert len(exposed) == len(set(exposed))


def sample_names(family: Family) -> list[str]:
    suffixes = ("", "_bucket", "_sum", "_count") if family.kind == HISTOGRAM else ("",)
    return [family.exposed_name + suffix for suffix in suffixes]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_and_labels_follow_the_conventions(family: Family) -> None:
    assert re.fullmatch(r"luna_[a-z][a-z0-9_]*", family.exposed_name)
    assert family.exposed_name.endswith("_total") == (family.kind == COUNTER)
    assert family.kind in (COUNTER, GAUGE, HISTOGRAM)
    assert set(family.labels) <= BOUNDED, "a label must have few values"
    assert family.meaning.endswith(".")
    assert "|" not in family.meaning
    assert "\n" not in family.meaning


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if f.kind == HISTOGRAM], ids=lambda family: family.name
)
def test_buckets_go_up_and_are_few(family: Family) -> None:
    assert list(family.bounds) == sorted(set(family.bounds))
    assert family.bounds[0] > 0
    assert len(family.bounds) <= 20
    assert "le" not in family.labels


def test_the_table_has_a_row_for_each_metric() -> None:
    rows = metrics_table().splitlines()
    assert len(rows) == len(FAMILIES) + 2
    assert {row.count("|") for row in rows} == {5}
