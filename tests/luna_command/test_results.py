"""Counting tests and summing up."""

from __future__ import annotations

import pytest
from luna_command import results


class TestResults:
    JUNIT = """<testsuites><testsuite>
        <testcase name="a"/>
        <testcase name="b"><failure/></testcase>
        <testcase name="c"><error/></testcase>
        <testcase name="d"><skipped/></testcase>
        <testcase name="e"><properties/></testcase>
    </testsuite></testsuites>"""

    @pytest.fixture
    def junit(self, tmp_path):
        path = tmp_path / "results.xml"
        path.write_text(self.JUNIT, "utf-8")
        return path

    def test_counts(self, junit):
        assert results.count_tests(junit) == (2, 2, 1)

    def test_a_failed_run_is_a_failed_area(self, junit):
        result = results.result_of("unit", 1, junit, lenient=False)
        assert (result.ok, result.passed, result.failed, result.skipped) == (False, 2, 2, 1)

    def test_a_runner_that_dies_counts_as_a_failure(self, tmp_path):
        result = results.result_of("unit", 3, tmp_path / "none.xml", lenient=True)
        assert (result.ok, result.failed) == (False, 1)
        assert result.note == "the runner stopped with code 3"

    @pytest.mark.parametrize("lenient", [True, False])
    def test_no_tests_is_fine_only_if_the_user_chose(self, tmp_path, lenient):
        code = results.NO_TESTS_COLLECTED
        result = results.result_of("unit", code, tmp_path / "none.xml", lenient=lenient)
        assert result.ok is lenient

    def test_the_last_line_of_the_summary_is_the_totals(self):
        rows = [
            results.Result("lint", ok=False, seconds=3),
            results.Result("unit", ok=True, passed=10, skipped=2, seconds=61),
            results.Result("comfyui", ok=False, passed=1, failed=1, note="see above"),
        ]
        lines = results.summary(rows).splitlines()
        assert lines[-1] == "11 passed, 1 failed, 2 skipped"
        assert lines[-2] == "Failed: lint, comfyui. To run one: luna.py test --only lint"
        assert lines[2].split() == ["lint", "FAILED", "-", "-", "-", "3", "s"]
        assert lines[3].split() == ["unit", "ok", "10", "0", "2", "61", "s"]
