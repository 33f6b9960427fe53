"""Results of test areas: read from JUnit files, not from what a runner prints, and summed up."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NO_TESTS_COLLECTED = 5  # exit code of pytest


@dataclass(frozen=True)
class Result:
    """What came out of one area. `seconds` is filled in by whoever measured."""

    area: str
    ok: bool
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""
    seconds: float = 0.0


def result_of(area: str, exit_code: int, junit: Path, *, lenient: bool) -> Result:
    """Read a runner's result. `lenient`: selecting no test is fine, since the user made the selection."""
    passed, failed, skipped = count_tests(junit)
    if exit_code == 0 or (exit_code == NO_TESTS_COLLECTED and lenient):
        return Result(area, True, passed, failed, skipped)
    note = "" if failed else f"the runner stopped with code {exit_code}"
    return Result(area, False, passed, max(failed, 1), skipped, note)


def count_tests(junit: Path) -> tuple[int, int, int]:
    """Return passed, failed and skipped from a JUnit file; zeros when there is none."""
    if not junit.is_file():
        return 0, 0, 0
    passed = failed = skipped = 0
    for case in ElementTree.parse(junit).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def summary(results: Sequence[Result]) -> str:
    """Return the table, the areas that failed, and the totals as the last line."""
    lines = [f"\n{'area':<12}{'result':<9}{'passed':>7}{'failed':>7}{'skipped':>8}{'time':>8}"]
    lines += [_row(result) for result in results]
    failed = [result.area for result in results if not result.ok]
    if failed:
        lines.append(f"Failed: {', '.join(failed)}. To run one: luna.py test --only {failed[0]}")
    totals = [
        sum(getattr(result, count) for result in results)
        for count in ("passed", "failed", "skipped")
    ]
    lines.append("{} passed, {} failed, {} skipped".format(*totals))
    return "\n".join(lines)


def _row(result: Result) -> str:
    outcome = "ok" if result.ok else "FAILED"
    if result.area == "lint":
        counts = f"{'-':>7}{'-':>7}{'-':>8}"
    else:
        counts = f"{result.passed:>7}{result.failed:>7}{result.skipped:>8}"
    return f"{result.area:<12}{outcome:<9}{counts}{result.seconds:>6.0f} s  {result.note}".rstrip()
