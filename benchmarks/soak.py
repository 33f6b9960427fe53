"""`python benchmarks/soak.py --minutes 10`. Only a launcher: soak_area/command.py says what it does."""

import sys

from launch import start  # beside this file, and so on the search path of the script


def main(arguments: list[str]) -> int:
    """Run the soak; return 0 when nothing was lost, wrong, hung or leaked."""
    return start("soak_area.command", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
