"""The wildcard engine, against dynamicprompts where that does the same."""

from __future__ import annotations

import importlib.util

from ..entries import Measurement

MEASUREMENTS = (
    Measurement("single calls", "rates", "measure_single_calls"),
    Measurement("batches", "rates", "measure_batches"),
    Measurement("prompts per CPU-second", "rates", "measure_rates"),
    Measurement("first call", "starting"),
    Measurement("counting", "counting"),
)


def why_not() -> str:
    """Return why nothing of this area can be measured here; "" when it can."""
    if importlib.util.find_spec("dynamicprompts") is None:
        return "dynamicprompts is not installed: pip install -e .[dev]"
    return ""
