"""Which LoRA file is meant by a name.

Prompts and stacks of other people's nodes write a LoRA with or without folder and extension, with either
separator, in any case, or only a part of its name. The closest reading counts, and a name that several
files fit equally well is an error: the wrong LoRA would go unnoticed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence

from ..errors import InputError

EXTENSIONS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
_SHOWN = 8


def resolve(name: str, known: Sequence[str]) -> str:
    """Return the known name that is meant.

    Exact beats the file's name without its folder, which beats a part of the name; at each step the
    extension may be missing, and the same case beats another one.

    Raises:
        InputError: No file fits, or several do; the message lists candidates.
    """
    for fits in _readings(name):
        found = sorted({candidate for candidate in known if fits(candidate)})
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"The LoRA name '{name}' fits {len(found)} files: {_listed(found)}.",
                "Write the whole name, with its folder.",
            )
    raise InputError(f"There is no LoRA '{name}'.{_similar(name, known)}", _missing_hint(known))


def _readings(name: str) -> list[Callable[[str], bool]]:
    """Return the ways to read a name, the closest first."""
    wanted = _plain(name)
    if not wanted:
        return []
    folded = wanted.lower()
    return [
        lambda known: wanted == _plain(known),
        lambda known: wanted == _stem(_plain(known)),
        lambda known: folded in _spellings(_plain(known).lower()),
        lambda known: wanted in _spellings(_base(_plain(known))),
        lambda known: folded in _spellings(_base(_plain(known)).lower()),
        lambda known: _is_end_of_path(folded, _plain(known).lower()),
        lambda known: folded in _plain(known).lower(),
    ]


def stem(name: str) -> str:
    """Return a LoRA's name without its model file extension; a dot that belongs to the name stays."""
    return _stem(name)


def _plain(name: str) -> str:
    return name.strip().replace("\\", "/")


def _stem(name: str) -> str:
    for extension in EXTENSIONS:
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return name


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _spellings(name: str) -> tuple[str, str]:
    return name, _stem(name)


def _is_end_of_path(wanted: str, known: str) -> bool:
    """Tell whether the name is the end of a path, whole folders: "b/c" of "a/b/c.safetensors"."""
    return any(spelling.endswith(f"/{wanted}") for spelling in _spellings(known))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _similar(name: str, known: Sequence[str]) -> str:
    by_base = {_stem(_base(_plain(candidate))).lower(): candidate for candidate in known}
    close = difflib.get_close_matches(_stem(_base(_plain(name))).lower(), by_base, n=_SHOWN)
    return f" Similar: {_listed(by_base[key] for key in close)}." if close else ""


def _missing_hint(known: Sequence[str]) -> str:
    if not known:
        return "The folder models/loras is empty."
    return "Put the file into models/loras, or correct the name."
