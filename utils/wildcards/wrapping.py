"""`%{before … after$$inner}`: the inner text in place of the dots."""

from __future__ import annotations

import re

_DOTS = re.compile(r"[\u2026\u1801\u22ee-\u22f1\ufe19]+|\.{3,}")


def wrap(wrapper: str, inner: str) -> str:
    """Return the wrapper around the inner text; without dots, the inner text comes last."""
    match = _DOTS.search(wrapper)
    if match is None:
        return wrapper + inner
    return wrapper[: match.start()] + inner + wrapper[match.end() :]
