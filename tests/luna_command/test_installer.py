"""Quiet runs of pip, and what is said about a failed one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from luna_command import installer
from luna_command.console import CommandError


class TestInstaller:
    @pytest.fixture
    def failed(self, tmp_path):
        """An installer whose last run printed something and failed."""
        made = installer.Installer(Path(sys.executable), tmp_path / "setup.log", tmp_path, 0)
        made._kept_open = ()
        assert not made.attempt("this_module_does_not_exist")
        return made

    def test_a_failure_shows_the_end_of_the_log_and_where_it_is(self, failed):
        text = failed.failure("install torch")
        assert text.startswith("Could not install torch.")
        assert "No module named this_module_does_not_exist" in text
        assert str(failed.log) in text

    def test_a_required_run_raises(self, failed):
        with pytest.raises(CommandError, match="Could not update pip"):
            failed.require("update pip", "this_module_does_not_exist")

    @pytest.mark.parametrize(
        ("output", "advice"),
        [
            ("ERROR: [Errno 28] No space left on device", "The disk is full. Free some room"),
            (
                "Retrying after NewConnectionError\nERROR: No matching distribution found for torch",
                "Check the network connection",
            ),
            (
                "ERROR: No matching distribution found for torch",
                "Check the network connection; if that is fine, the package has no build for this Python",
            ),
            ("something else", "Read the log"),
        ],
    )
    def test_advice(self, output, advice):
        assert installer.advice_for(output) == advice

    def test_a_program_that_is_not_there_prints_nothing(self):
        assert installer.run_quietly(["luna-no-such-program"]) is None
