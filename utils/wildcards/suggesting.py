"""The name that was probably meant, for one that is not there."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

from .names import normal

MAX_LOOKED_AT = 500  # names that are compared letter by letter
_CUTOFF = 0.7


def closest(name: str, names: Iterable[str]) -> str:
    """Return the name that is most like another one; "" when none is like it.

    Comparing takes its time, so of very many names those are left out first that cannot be like it: of
    another length, or with other letters at the beginning and at the end.
    """
    wanted = normal(name)
    spread = max(1, len(wanted) // 4)
    low, high = len(wanted) - spread, len(wanted) + spread
    ends = wanted[:1], wanted[-1:]
    likely: dict[str, str] = {}
    for candidate in names:
        if not low <= len(candidate) <= high:
            continue
        compared = normal(candidate)
        if compared[:1] == ends[0] or compared[-1:] == ends[1]:
            likely.setdefault(compared, candidate)
    letters = 1
    while len(likely) > MAX_LOOKED_AT and letters < len(wanted):
        letters += 1
        begin, end = wanted[:letters], wanted[-letters:]
        kept = {n: c for n, c in likely.items() if n.startswith(begin) or n.endswith(end)}
        if not kept:
            break
        likely = kept
    likely = dict(itertools.islice(likely.items(), MAX_LOOKED_AT))
    found = difflib.get_close_matches(wanted, likely, 1, _CUTOFF)
    return likely[found[0]] if found else ""
