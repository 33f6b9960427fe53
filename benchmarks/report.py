"""`python benchmarks/report.py FILE`: results → docs/performance.md. Only a launcher: see page.py."""

import sys

# Beside this file, and so on the search path of the script.
from launch import start  # type: ignore[import-not-found]

if __name__ == "__main__":
    sys.exit(start("page", sys.argv[1:]))
