"""A process that expands one text, and says what that took."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Expand `arguments[1]` in the folder `arguments[0]`."""
    started = time.process_time()
    wildcards = importlib.import_module("...utils.wildcards", __package__)
    text = wildcards.expand(arguments[1], 1, wildcards.Library([arguments[0]])).text
    print(json.dumps({"cpu_s": time.process_time() - started, "text": text}))
    return 0
