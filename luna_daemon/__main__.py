"""`python -m luna_daemon` does what `python luna_daemon/daemon_server.py` does.

The launcher is run as the main script, not imported: multiprocessing runs the main script again in
worker processes, but leaves out one that is called `__main__.py`.
"""

from __future__ import annotations

import runpy
from pathlib import Path

if __name__ == "__main__":
    launcher = Path(__file__).resolve().with_name("daemon_server.py")
    runpy.run_path(str(launcher), run_name="__main__")
