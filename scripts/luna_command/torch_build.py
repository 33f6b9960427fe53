"""Which build of torch to install, and from where.

torch comes in builds of very different size: 200 MB for the CPU, several GB for CUDA. What plain
`pip install torch` picks is the CUDA build on Linux and the CPU build on Windows, whatever the machine
has. So, in this order:

1. A good enough torch that is in the environment stays. To use a special build (ROCm, a nightly),
   install it into .venv by hand and run the set-up again.
2. Without an NVIDIA GPU: a wheel in a folder that pip is configured to look into (find-links).
3. uv knows where torch's builds are and picks the right one; it is installed for that purpose.
4. If all of that fails, whatever pip picks.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from .console import CommandError, say
from .installer import Installer, run_quietly

MINIMUM = (2, 6)
REQUIREMENT = f"torch>={MINIMUM[0]}.{MINIMUM[1]}"
TESTED = "torch==2.13.0"

# INSTALLER is the file that pip and uv write last, so an interrupted install has none.
_INSTALLED = """
import importlib.metadata as m
try:
    torch = m.distribution("torch")
except m.PackageNotFoundError:
    print("")
else:
    print(torch.version if torch.read_text("INSTALLER") else "")
"""

_IMPORTED = """
import json, torch
v = torch.version
build = f"CUDA {v.cuda}" if v.cuda else f"ROCm {v.hip}" if getattr(v, "hip", None) else "CPU"
print(json.dumps([torch.__version__, build]))
"""


@dataclass(frozen=True)
class Source:
    """One way to get torch: every step has to work. A step is a module and its arguments."""

    label: str
    steps: tuple[tuple[str, ...], ...]


def is_good_enough(version: str) -> bool:
    """Tell whether an installed version of torch can be used as it is."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= MINIMUM


def torch_sources(
    python: Path, *, system: str, has_gpu: bool, has_wheel_folder: bool
) -> list[Source]:
    """Return the ways to get torch in the order to try them. `system`: as in `sys.platform`."""
    sources = []
    if has_wheel_folder and not has_gpu:
        # --no-deps: the folder need not hold what torch depends on; the main install brings that.
        from_folder = ("pip", "install", "--no-index", "--no-deps")
        sources = [
            Source(f"{wanted} from pip's find-links folder", ((*from_folder, wanted),))
            for wanted in (TESTED, REQUIREMENT)
        ]
    if system != "darwin":
        backend, build = ("auto", "build for this GPU") if has_gpu else ("cpu", "CPU build")
        sources.append(
            Source(
                f"{build}, chosen by uv",
                (
                    ("pip", "install", "uv"),
                    ("uv", "pip", "install", *_uv_target(python, backend), REQUIREMENT),
                ),
            )
        )
    sources.append(Source("the build that pip picks", (("pip", "install", REQUIREMENT),)))
    return sources


def _uv_target(python: Path, backend: str) -> tuple[str, ...]:
    return ("--python", str(python), f"--torch-backend={backend}")


def has_nvidia_gpu() -> bool:
    """Tell whether the NVIDIA driver lists a GPU."""
    return "GPU" in (run_quietly(["nvidia-smi", "-L"], timeout_s=20) or "")


def has_wheel_folder(python: Path) -> bool:
    """Tell whether pip's settings, from files or the environment, name a folder with wheels."""
    return names_wheel_folder(run_quietly([str(python), "-m", "pip", "config", "list"]) or "")


def names_wheel_folder(settings: str) -> bool:
    """Read the output of `pip config list`, where a line is e.g. `global.find-links='/wheels'`."""
    return re.search(r"""\bfind-links=(['"])(?!\1)""", settings) is not None


def installed_version(python: Path) -> str:
    """Return the version of torch in the environment, or "" when there is none that is whole."""
    return (run_quietly([str(python), "-c", _INSTALLED]) or "").strip()


def imported_build(python: Path) -> tuple[str, str] | None:
    """Return version and build as torch itself tells them, or None when it cannot be imported."""
    answer = run_quietly([str(python), "-c", _IMPORTED], timeout_s=300)
    if answer is None:
        return None
    version, build = json.loads(answer.splitlines()[-1])
    return version, build


def install_torch(installer: Installer, sources: list[Source]) -> None:
    """Install torch from the first source that works.

    Raises:
        CommandError: None of them did.
    """
    for source in sources:
        say(f"Installing torch ({source.label}) ...")
        if all(installer.attempt(*step) for step in source.steps):
            return
        if source is not sources[-1]:
            say("That did not work; trying another way.")
    raise CommandError(installer.failure("install torch"))
