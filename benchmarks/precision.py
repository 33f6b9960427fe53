"""`python benchmarks/precision.py`: docs/performance.md → docs/precision.md. Only a launcher: see precision_page.py."""

import sys

# Beside this file, and so on the search path of the script.
from launch import start  # type: ignore[import-not-found]

if __name__ == "__main__":
    sys.exit(start("precision_page", sys.argv[1:]))
