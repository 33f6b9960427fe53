"""Which entry of a list is next, and what its picture is called.

A picture's name is made of a prefix and of the entry's name, or of its number where it has none. A picture
that is there already, as savers write it, marks its entry as done.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..seeded_draw import SeededDraw, seed_of
from .entry import PromptEntry

_UNFIT = re.compile(r'[\x00-\x1f<>:"/\\|?*%]+')  # for file names; and % means something to savers
_MAX_NAME = 100
# "name.png", "name_00001_.png", "name_00001.webp"
_SAVED = re.compile(r"(?:_\d+_?)?\.[a-z0-9]{2,5}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Chosen:
    """An entry that was chosen.

    Attributes:
        index: Its place in the list, from 0; -1: none is left.
        total: How many entries there are.
        complete: It is the last that is to be done.
    """

    index: int
    total: int
    complete: bool


def at_index(index: int, total: int) -> Chosen:
    """Choose by number; behind the last comes the first again."""
    place = index % total
    return Chosen(place, total, place == total - 1)


def first_open(index: int, done: Sequence[bool]) -> Chosen:
    """Choose the first entry from `index` on that is not done, beginning anew behind the last."""
    total = len(done)
    left = [(index + step) % total for step in range(total) if not done[(index + step) % total]]
    return Chosen(left[0] if left else -1, total, len(left) <= 1)


def picture_names(entries: Sequence[PromptEntry]) -> list[str]:
    """Return a name for each entry's picture, no two alike on any file system."""
    digits = max(5, len(str(len(entries))))
    plain = [_fit(entry.name) for entry in entries]
    uses = Counter(name.lower() for name in plain)
    taken = {name.lower() for name in plain if uses[name.lower()] == 1}
    return [
        name
        if name and uses[name.lower()] == 1
        else _free(f"{name and name + '_'}{number:0{digits}}", taken)
        for number, name in enumerate(plain)
    ]


def saved_names(names: Iterable[str], is_file: Callable[[str], bool]) -> set[str]:
    """Return those of a folder's names that are files; only what has the form of a saved picture."""
    return {name for name in names if _SAVED.search(name) and is_file(name)}


def is_saved(name: str, files: Iterable[str]) -> bool:
    """Tell whether a picture of this name is among files."""
    folded = name.lower()
    return any(
        file.lower().startswith(folded) and _SAVED.fullmatch(file, len(name)) for file in files
    )


def seed_for(entry: PromptEntry, index: int, base_seed: int) -> int:
    """Return an entry's seed.

    Args:
        entry: With a seed of its own or without.
        index: Its place.
        base_seed: For entries without: -1 for one by chance; else it and the place decide.
    """
    if entry.seed is not None:
        return entry.seed
    if base_seed == -1:
        return seed_of(-1)
    return int(SeededDraw(base_seed, f"entry {index}").fraction() * 2**53)


def _fit(name: str) -> str:
    stem = name.replace("\\", "/").rpartition("/")[2]
    stem = re.sub(r"\.(png|jpe?g|webp|avif|gif)$", "", stem, flags=re.IGNORECASE)
    return _UNFIT.sub("_", stem)[:_MAX_NAME].strip(". ")


def _free(name: str, taken: set[str]) -> str:
    while name.lower() in taken:
        name += "_"
    taken.add(name.lower())
    return name
