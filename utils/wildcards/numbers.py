"""Numbers in texts: ranges `{1-10}`, `{0.5-1.5:0.1}`, and weights `0.5::`.

All arithmetic is on integers of the smallest decimal place, so that no platform rounds differently.
"""

from __future__ import annotations

import re

from .tree import NumberRange

_NUMBER = r"-?(?:[0-9]{1,15}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*(?::\s*({_NUMBER})\s*)?")
_WEIGHT = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(\s*)::")
DECIMALS_WITHOUT_STEP = 2  # of a range between fractions


def read_range(content: str) -> NumberRange | None:
    """Return the range that is written between two braces, or None."""
    match = _RANGE.fullmatch(content)
    if match is None:
        return None
    first, last, step = match.groups()
    if step is not None:
        decimals = max(map(_decimals, (first, last, step)))
        stride = _scaled(step, decimals)
    elif "." in first or "." in last:
        decimals = max(DECIMALS_WITHOUT_STEP, _decimals(first), _decimals(last))
        stride = 1
    else:
        decimals, stride = 0, 1
    if stride <= 0:
        stride = 10**decimals
    low, high = sorted((_scaled(first, decimals), _scaled(last, decimals)))
    return NumberRange(low, stride, (high - low) // stride + 1, decimals, f"{{{content}}}")


def split_weight(text: str, *, bare: bool = False) -> tuple[float, str] | None:
    """Part `0.5::text`; None when nothing of the kind stands in front.

    Args:
        text: With or without a weight.
        bare: `0.5 ::text` has none.
    """
    match = _WEIGHT.match(text)
    if match is None or (bare and match.group(2)):
        return None
    return float(match.group(1)), text[match.end() :]


def _decimals(number: str) -> int:
    return len(number.partition(".")[2])


def _scaled(number: str, decimals: int) -> int:
    """Return a number as an integer of 10**-decimals; further decimals are cut off."""
    sign = -1 if number.startswith("-") else 1
    whole, _, part = number.lstrip("-").partition(".")
    return sign * int((whole or "0") + part[:decimals].ljust(decimals, "0"))
