"""Models that were put aside for a second one, by names that stay the same from run to run.

Only weak references are kept: a model lives as long as the node that loaded it keeps it.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import weakref
from pathlib import Path
from typing import Any

from ...utils.errors import InputError

_DIGITS = 8
_parked: dict[str, weakref.ref[Any]] = {}  # in the order in which they were put aside
_lock = threading.Lock()


def park(patcher: Any) -> str:
    """Remember a model; return its name.

    Where another one of the same file, with other patches, is put aside, a number is added.
    """
    base = name_of(patcher)
    with _lock:
        _forget_the_dead()
        for number in itertools.count(1):
            name = base if number == 1 else f"{base}-{number}"
            there = _parked[name]() if name in _parked else None
            if there is None or _is_same(there, patcher):
                break
        _parked[name] = weakref.ref(patcher)
    return name


def find(name: str) -> Any:
    """Return a model that was put aside; an empty name stands for the first.

    Raises:
        InputError: There is none, or it is no longer loaded.
    """
    with _lock:
        _forget_the_dead()
        there = {key: patcher() for key, patcher in _parked.items()}
    wanted = name or next(iter(there), "")
    found = there.get(wanted)
    if found is not None:
        return found
    known = ", ".join(f"'{key}'" for key in there) or "none"
    what = f"'{name}' is not" if name else "No model is"
    raise InputError(
        f"{what} among the models that a Luna Secondary Model Loader has put aside. There are: {known}.",
        "Link the model to original_model, or run the loader first.",
    )


def name_of(patcher: Any) -> str:
    """Return a name that a model has in every run, and after a restart.

    It is made of the file that ComfyUI noted for the model; where none is noted, of the names and shapes of
    its weights.
    """
    origin = getattr(patcher, "cached_patcher_init", None)
    path = origin[1][0] if origin and origin[1] else None
    if isinstance(path, str):
        return f"{Path(path).stem}-{_digest(str(Path(path).resolve()))}"
    weights = patcher.model.state_dict()
    shapes = sorted((key, tuple(value.shape)) for key, value in weights.items())
    return f"{type(patcher.model).__name__}-{_digest(repr(shapes))}"


def _is_same(one: Any, other: Any) -> bool:
    return bool(one.is_clone(other)) and one.patches_uuid == other.patches_uuid


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def _forget_the_dead() -> None:
    for name in [name for name, patcher in _parked.items() if patcher() is None]:
        del _parked[name]
