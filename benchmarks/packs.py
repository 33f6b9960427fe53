"""`luna.py packs`. Only a launcher: packs_area/command.py says what it takes and does."""

import sys

# Beside this file, and so on the search path of the script.
from launch import start  # type: ignore[import-not-found]

if __name__ == "__main__":
    sys.exit(start("packs_area.command", sys.argv[1:]))
