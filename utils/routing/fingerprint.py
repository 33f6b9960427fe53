"""What tells whether a router has to load again: the plan, and the state of the files in it."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import LunaError
from ..weights.shelf import ModelFile, Shelf
from .choice import Choice, Plan
from .planner import make_plan


def fingerprint(choice: Choice, shelf: Shelf) -> list[str]:
    """Return texts that change when another result would come of the choice."""
    wanted = sorted(choice.wanted)
    try:
        plan = make_plan(choice, shelf)
    except LunaError as error:
        return [*wanted, str(error)]  # it is raised when the node runs
    return [*wanted, plan.model_type, *(stamp(file) for file in _files(plan))]


def _files(plan: Plan) -> Iterator[ModelFile]:
    vae = plan.vae.file if plan.vae else None
    singles = (plan.model, vae, plan.clip_vision, plan.llm, plan.ip_adapter)
    yield from (file for file in singles if file is not None)
    yield from plan.clip.files if plan.clip else ()


def stamp(file: ModelFile) -> str:
    """Return what changes when another file is put in its place."""
    try:
        state = file.path.stat()
    except OSError as error:
        return f"{file.path} {error.strerror}"
    return f"{file.path} {state.st_size} {state.st_mtime_ns}"
