from __future__ import annotations

import sys
from pathlib import Path

import pytest
from luna_collection.luna_daemon.comfyui_folder import find_comfyui, find_comfyui_python
from luna_collection.luna_daemon.errors import ConfigError


def make_comfyui(folder: Path) -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    return folder


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """A folder that looks like ComfyUI's."""
    return make_comfyui(tmp_path / "ComfyUI")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Where the package lies when it is not installed in ComfyUI."""
    return tmp_path / "src" / "luna"


def test_the_setting_says_where_it_is(comfyui: Path, elsewhere: Path) -> None:
    assert find_comfyui(comfyui, {}, elsewhere) == comfyui


def test_the_environment_says_where_it_is(comfyui: Path, elsewhere: Path) -> None:
    assert find_comfyui(None, {"COMFYUI_PATH": str(comfyui)}, elsewhere) == comfyui


def test_the_environment_of_the_process_is_used(
    comfyui: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui))
    assert find_comfyui(None, package_root=elsewhere) == comfyui


def test_a_package_in_custom_nodes_finds_it_above(comfyui: Path) -> None:
    assert find_comfyui(None, {}, comfyui / "custom_nodes" / "luna") == comfyui


def test_without_a_hint_there_is_none(elsewhere: Path) -> None:
    assert find_comfyui(None, {}, elsewhere) is None


def test_an_empty_variable_is_no_hint(elsewhere: Path) -> None:
    assert find_comfyui(None, {"COMFYUI_PATH": ""}, elsewhere) is None


def test_the_setting_wins_over_the_environment(
    comfyui: Path, elsewhere: Path, tmp_path: Path
) -> None:
    other = make_comfyui(tmp_path / "other")
    assert find_comfyui(comfyui, {"COMFYUI_PATH": str(other)}, elsewhere) == comfyui


def test_the_environment_wins_over_the_place_of_the_package(comfyui: Path, tmp_path: Path) -> None:
    other = make_comfyui(tmp_path / "other")
    package = comfyui / "custom_nodes" / "luna"
    assert find_comfyui(None, {"COMFYUI_PATH": str(other)}, package) == other


def test_a_relative_setting_becomes_a_whole_path(
    comfyui: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(comfyui.parent)
    assert find_comfyui(Path("ComfyUI"), {}, elsewhere) == comfyui


@pytest.mark.parametrize("lacks", ["main.py", "comfy", "all"])
def test_a_named_folder_that_is_not_comfyuis_is_refused(
    comfyui: Path, elsewhere: Path, lacks: str
) -> None:
    if lacks in ("main.py", "all"):
        (comfyui / "main.py").unlink()
    if lacks in ("comfy", "all"):
        (comfyui / "comfy").rmdir()
    for setting, env in ((comfyui, {}), (None, {"COMFYUI_PATH": str(comfyui)})):
        with pytest.raises(ConfigError) as refused:
            find_comfyui(setting, env, elsewhere)
        assert refused.value.message == (
            f"{comfyui} is not ComfyUI's folder: it has no main.py and comfy/."
        )


def test_a_custom_nodes_folder_without_comfyui_above_is_no_hint(tmp_path: Path) -> None:
    assert find_comfyui(None, {}, tmp_path / "custom_nodes" / "luna") is None


def test_a_package_deeper_in_comfyui_does_not_find_it(comfyui: Path) -> None:
    assert find_comfyui(None, {}, comfyui / "custom_nodes" / "pack" / "luna") is None


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    "place",
    [
        ".venv/bin/python",
        ".venv/Scripts/python.exe",
        "venv/bin/python",
        "python_embeded/python.exe",
        "../python_embeded/python.exe",
    ],
)
def test_its_python_is_found_in_its_environment(comfyui: Path, place: str) -> None:
    python = touch(comfyui / place)
    assert find_comfyui_python(comfyui, None, {}).resolve() == python.resolve()


def test_a_named_python_goes_first(comfyui: Path, tmp_path: Path) -> None:
    touch(comfyui / ".venv/bin/python")
    setting, variable = touch(tmp_path / "a"), touch(tmp_path / "b")
    env = {"COMFYUI_PYTHON": str(variable)}
    assert find_comfyui_python(comfyui, setting, env) == setting
    assert find_comfyui_python(comfyui, None, env) == variable


def test_without_an_environment_it_is_ours(comfyui: Path) -> None:
    assert find_comfyui_python(comfyui, None, {}) == Path(sys.executable)


def test_a_python_that_is_not_there_is_an_error(comfyui: Path) -> None:
    with pytest.raises(ConfigError, match="not a Python interpreter"):
        find_comfyui_python(comfyui, comfyui / "nowhere", {})
