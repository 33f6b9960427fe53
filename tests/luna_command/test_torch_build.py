"""From where torch is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from luna_command import torch_build
from luna_command.console import CommandError

PYTHON = Path("venv/bin/python")


class TestTorchSources:
    @pytest.mark.parametrize(
        ("system", "has_gpu", "has_wheel_folder", "labels"),
        [
            ("linux", False, False, ["CPU build, chosen by uv", "the build that pip picks"]),
            (
                "linux",
                True,
                False,
                ["build for this GPU, chosen by uv", "the build that pip picks"],
            ),
            ("win32", True, True, ["build for this GPU, chosen by uv", "the build that pip picks"]),
            ("darwin", False, False, ["the build that pip picks"]),
            (
                "linux",
                False,
                True,
                [
                    "torch==2.13.0 from pip's find-links folder",
                    "torch>=2.6 from pip's find-links folder",
                    "CPU build, chosen by uv",
                    "the build that pip picks",
                ],
            ),
        ],
    )
    def test_order(self, system, has_gpu, has_wheel_folder, labels):
        sources = torch_build.torch_sources(
            PYTHON, system=system, has_gpu=has_gpu, has_wheel_folder=has_wheel_folder
        )
        assert [source.label for source in sources] == labels

    @pytest.mark.parametrize(("has_gpu", "backend"), [(True, "auto"), (False, "cpu")])
    def test_uv_is_told_the_environment_and_the_backend(self, has_gpu, backend):
        sources = torch_build.torch_sources(
            PYTHON, system="linux", has_gpu=has_gpu, has_wheel_folder=False
        )
        assert sources[0].steps == (
            ("pip", "install", "uv"),
            (
                *("uv", "pip", "install", "--python", str(PYTHON)),
                *(f"--torch-backend={backend}", "torch>=2.6"),
            ),
        )

    def test_the_tested_version_is_looked_for_in_the_wheel_folder_first(self):
        sources = torch_build.torch_sources(
            PYTHON, system="linux", has_gpu=False, has_wheel_folder=True
        )
        wanted = [source.steps[0][-1] for source in sources[:2]]
        assert wanted == ["torch==2.13.0", "torch>=2.6"]
        assert all("--no-index" in source.steps[0] for source in sources[:2])

    @pytest.mark.parametrize(
        ("version", "good"),
        [
            ("2.13.0+cpu", True),
            ("2.6.0", True),
            ("2.5.1", False),
            ("1.13.1", False),
            ("3.0.0a0", True),
            ("", False),
        ],
    )
    def test_good_enough(self, version, good):
        assert torch_build.is_good_enough(version) is good

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ("global.find-links='/wheels'\n", True),
            (":env:.find-links='/wheels'\n", True),
            (":env:.find-links=''\n", False),
            ("global.timeout='180'\n", False),
            ("", False),
        ],
    )
    def test_a_wheel_folder_in_pips_settings(self, settings, named):
        assert torch_build.names_wheel_folder(settings) is named

    def test_a_failing_source_is_followed_by_the_next_and_the_last_by_an_error(self, capsys):
        tried = []

        class Failing:
            def attempt(self, *step):
                tried.append(step)
                return False

            def failure(self, what):
                return f"Could not {what}."

        sources = torch_build.torch_sources(
            PYTHON, system="linux", has_gpu=False, has_wheel_folder=False
        )
        with pytest.raises(CommandError, match=r"Could not install torch\."):
            torch_build.install_torch(Failing(), sources)
        assert tried == [("pip", "install", "uv"), ("pip", "install", "torch>=2.6")]
        assert capsys.readouterr().out.splitlines() == [
            "Installing torch (CPU build, chosen by uv) ...",
            "That did not work; trying another way.",
            "Installing torch (the build that pip picks) ...",
        ]
