"""Wildcards: texts with choices, names and variables in them. `engine.py` has the calls."""

from .dialects import DIALECTS, LUNA, Dialect, find_dialect
from .engine import Expansion, batch, count, enumerate_outcomes, expand, probabilities
from .errors import Remark, WildcardError
from .indexing import IndexEntry, IndexPage
from .library import Library
from .picks import Pick

__all__ = [
    "DIALECTS",
    "LUNA",
    "Dialect",
    "Expansion",
    "IndexEntry",
    "IndexPage",
    "Library",
    "Pick",
    "Remark",
    "WildcardError",
    "batch",
    "count",
    "enumerate_outcomes",
    "expand",
    "find_dialect",
    "probabilities",
]
