"""Write docs/settings.md anew from the settings in luna_daemon/config.py.

Run it with the interpreter of .venv: python scripts/write_settings_doc.py
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

INTRODUCTION = """# Settings

Every setting can be given in four ways; the first that gives it counts:

1. on the command line: `--log-level debug` (underscores become hyphens),
2. in the environment: `LUNA_LOG_LEVEL=debug`,
3. in a YAML file: `log_level: debug`. The file is the one named with `--config` or `LUNA_CONFIG`, else
   `~/.config/luna-daemon/luna.yaml` (Windows: `%APPDATA%\\luna-daemon\\luna.yaml`),
4. its default.

`luna-daemon --print-config` shows every value and where it came from. A name that does not exist is an error.
Clients read the same settings, so a client and a daemon of one user find each other.

Sizes in MB and GB are 2^20 and 2^30 bytes; durations are seconds.

"""


def main() -> int:
    """Write the file."""
    sys.path.insert(0, str(ROOT / "luna_daemon"))
    importlib.import_module("package_alias").load_package()
    config = importlib.import_module("luna_collection.luna_daemon.config_sources")
    (ROOT / "docs" / "settings.md").write_text(
        INTRODUCTION + config.settings_table() + "\n", "utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
