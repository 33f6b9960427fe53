"""Finding a browser, and the few places where one may be installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from luna_command import chromium
from luna_command.console import CommandError


def has(*programs: str):
    return lambda name: f"/bin/{name}" if name in programs else None


def test_the_variable_comes_first():
    found = chromium.find_chromium({"CHROMIUM": "mine"}, has("mine", "chromium"))
    assert found == Path("/bin/mine")


def test_a_wrong_variable_is_an_error_and_not_a_reason_to_skip():
    with pytest.raises(CommandError, match="CHROMIUM is 'mine'"):
        chromium.find_chromium({"CHROMIUM": "mine"}, has("chromium"))


@pytest.mark.parametrize("name", chromium.NAMES)
def test_then_the_usual_names(name):
    assert chromium.find_chromium({}, has(name)) == Path(f"/bin/{name}")


def test_none_is_a_reason_to_skip():
    with pytest.raises(chromium.NoChromiumError, match="No browser was found"):
        chromium.find_chromium({}, has())


@pytest.mark.parametrize(
    ("environ", "user", "apt"),
    [({}, 0, True), ({"CI": "true"}, 1000, True), ({"CI": "true"}, 0, False)],
    ids=["a person's machine", "not root", "no apt"],
)
def test_nothing_is_installed_on(monkeypatch, environ, user, apt):
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    monkeypatch.setattr(chromium.shutil, "which", has("apt-get") if apt else has())
    monkeypatch.setattr(chromium, "run_quietly", lambda *a, **k: pytest.fail("it installs"))
    assert chromium.install_chromium(environ) is False


def test_on_a_test_machine_debians_is_installed(monkeypatch):
    ran = []

    def run(command, timeout_s):
        ran.append(command)
        return ""

    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(chromium.shutil, "which", has("apt-get"))
    monkeypatch.setattr(chromium, "run_quietly", run)
    assert chromium.install_chromium({"CI": "true"}) is True
    assert [command[:2] for command in ran] == [["apt-get", "update"], ["apt-get", "install"]]
    assert ran[1][-1] == "chromium"


def test_an_installation_that_fails_is_no_browser(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(chromium.shutil, "which", has("apt-get"))
    monkeypatch.setattr(chromium, "run_quietly", lambda *a, **k: None)
    assert chromium.install_chromium({"CI": "true"}) is False
