"""The one command of this repository; `python3 luna.py --help` lists what it can do.

The work is done in scripts/luna_command/. This file checks the Python version first, so it has to be
readable by every Python: no annotations, no f-strings, ASCII only.
"""

import os
import sys

if sys.version_info < (3, 10):
    sys.exit(
        "Luna needs Python 3.10 or newer, and this is Python %d.%d. "
        "Start luna.py with a newer one, for example: python3.12 luna.py" % sys.version_info[:2]
    )

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "scripts"))

from luna_command.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
