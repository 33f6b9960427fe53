"""How long the first prompt takes in a fresh process, in a folder of 100 000 files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ..entries import LOWER, Bench, Entry
from ..pairs import summarize
from .libraries import FILES, FOLDERS, make_tree

LAUNCH = Path(__file__).resolve().parent.parent / "launch.py"
STARTS, STARTS_QUICK = 9, 5
GOAL_S = 0.5
TEXTS = {
    "by its path": "__group0500/list0500_050__",
    "at any depth": "__**/list0999_099__",
    "that is not found": "__nowhere__",
}


def measure(bench: Bench) -> Iterator[Entry]:
    """Start processes that expand one text."""
    bench.tell(f"making {FILES} files")
    tree = make_tree(bench.folder)
    for name, text in TEXTS.items():
        starts = range(STARTS_QUICK if bench.quick else STARTS)
        result = summarize([_first_call(tree, text) for _ in starts])
        yield Entry(
            name=f"first call, a name {name}",
            value=result.value,
            unit="s",
            goal=GOAL_S,
            better=LOWER,
            n=result.n,
            spread=result.spread,
            how=f"CPU time of importing the engine and expanding '{text}' in a fresh process, with {FILES} "
            f"files in {FOLDERS} folders.",
        )


def _first_call(tree: Path, text: str) -> float:
    command = [sys.executable, str(LAUNCH), "wildcards_area.first_call", str(tree), text]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    if (text in answer["text"]) != ("nowhere" in text):
        raise ValueError(f"'{text}' became '{answer['text']}'.")
    return float(answer["cpu_s"])
