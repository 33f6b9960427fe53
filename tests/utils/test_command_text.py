"""Commands as a person can paste them."""

from __future__ import annotations

import sys
from pathlib import PureWindowsPath

from luna_collection.utils.command_text import command_text


def test_a_path_with_spaces_is_quoted_for_this_systems_terminal(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert command_text("/a b/python", "stop") == "'/a b/python' stop"
    monkeypatch.setattr(sys, "platform", "win32")
    python = PureWindowsPath(r"C:\Program Files\python.exe")
    assert command_text(python, "--port=1") == r'"C:\Program Files\python.exe" --port=1'
