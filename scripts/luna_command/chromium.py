"""Find a Chromium for the page tests; where it is safe to, install one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from .console import CommandError, say
from .installer import run_quietly

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OTHER_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Google/Chrome/Application/chrome.exe",
)


class NoChromiumError(Exception):
    """There is no Chromium to test with; the text is the reason to skip."""


def find_chromium(
    environ: Mapping[str, str], which: Callable[[str], str | None] = shutil.which
) -> Path:
    """Return the browser: what CHROMIUM names, else one of the usual names and places.

    Raises:
        NoChromiumError: There is none.
        CommandError: CHROMIUM names something that is not there.
    """
    if named := environ.get("CHROMIUM"):
        found = which(named)
        if found is None:
            raise CommandError(f"CHROMIUM is '{named}', where there is no program.")
        return Path(found)
    for name in (*NAMES, *_OTHER_PLACES):
        if found := which(name):
            return Path(found)
    raise NoChromiumError(f"No browser was found: neither CHROMIUM nor {', '.join(NAMES)}.")


def install_chromium(environ: Mapping[str, str]) -> bool:
    """Install Debian's Chromium on a test machine; return whether that was done.

    Only where CI is set and we are root on such a system: never on a person's machine.
    """
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not environ.get("CI") or not is_root or shutil.which("apt-get") is None:
        return False
    say("Installing Debian's chromium for the page tests ...")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
    if run_quietly(["apt-get", "update"], timeout_s=300) is None:
        say("apt-get update failed.")
        return False
    if run_quietly(install, timeout_s=900) is None:
        say("apt-get install chromium failed.")
        return False
    return True
