"""The areas of `luna.py test`: which there are, and what pytest is told."""

from __future__ import annotations

import pytest
from luna_command import areas


class TestAreas:
    def test_only_areas_with_a_folder_exist(self, tmp_path):
        assert areas.areas_in(tmp_path) == ("lint",)
        (tmp_path / "tests" / "page").mkdir(parents=True)
        assert areas.areas_in(tmp_path) == ("lint", "unit", "page")

    def test_every_area_has_a_runner(self):
        assert set(areas._RUNNERS) == {"lint", *areas.FOLDERS}

    @pytest.mark.parametrize(
        ("path", "area"),
        [
            ("tests/test_packaging.py", "unit"),
            ("tests/end_to_end/test_demo.py::test_it", "end_to_end"),
            ("tests/comfyui", "comfyui"),
            ("tests/page/test_panel.py", "page"),
            ("tests/pages/test_a.py", "unit"),
            ("tests/js/slots.test.js", "js"),
            ("tests/soak/test_soak.py", "soak"),
        ],
    )
    def test_area_of_a_path(self, path, area):
        assert areas.area_of(path) == area

    @pytest.mark.parametrize(
        ("only", "paths", "chosen"),
        [
            ([], {}, ("lint", "unit", "js")),
            (["soak", "unit"], {}, ("unit", "soak")),
            ([], {"soak": ("tests/soak",)}, ("soak",)),
            (["js"], {"soak": ("tests/soak",)}, ("js",)),
        ],
        ids=["nothing", "areas", "paths", "both"],
    )
    def test_what_takes_minutes_runs_only_when_it_is_asked_for(self, only, paths, chosen):
        assert areas.choose_areas(only, paths, ("lint", "unit", "js", "soak")) == chosen

    def test_paths_are_told_from_options(self, root):
        arguments = ["-k", "name", "tests/test_packaging.py::test_a", "tests/comfyui", "luna.py"]
        paths, rest = areas.split_paths(arguments, root)
        assert paths == {
            "unit": ("tests/test_packaging.py::test_a",),
            "comfyui": ("tests/comfyui",),
        }
        assert rest == ("-k", "name", "luna.py")

    def test_unit_leaves_out_the_other_areas_and_the_users_options_come_last(self, root):
        arguments = areas.pytest_arguments("unit", (), ("-n", "0"), root)
        assert arguments[:3] == ["tests", "-n", "2"]
        assert f"--ignore={root / 'tests/end_to_end'}" in arguments
        assert arguments[-2:] == ["-n", "0"]

    def test_named_paths_replace_an_areas_folder(self, root):
        arguments = areas.pytest_arguments("unit", ("tests/test_packaging.py",), ("-x",), root)
        assert arguments == ["tests/test_packaging.py", "-x"]

    def test_requirement_names(self):
        text = "# what we need\nmsgspec>=0.20,<1\n\nnvidia-ml-py >= 12  # optional\n"
        assert areas.requirement_names(text) == ["msgspec", "nvidia-ml-py"]
