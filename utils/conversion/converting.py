"""Converts a diffusion model, once: who asks again, in this process or another, gets the file that is there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from ..errors import InputError, LunaError, ModelFileError
from ..package_version import PACKAGE_VERSION
from . import part_files, streaming
from .adopting import adopt
from .devices import find_device
from .gguf_recipes import gguf_plan
from .locations import find_at, find_converted, note_use, old_places, own_place, place_for
from .plan import RECIPE_VERSION, Plan
from .refusal import ConversionCancelledError, ConversionRefusedError, Reason
from .safetensors_recipes import safetensors_plan
from .sidecars import Sidecar, now, write_sidecar
from .source import Source, check_unchanged, open_source
from .source_files import Identity, located, read_source
from .streaming import Progress, Run, Watch
from .targets import GGUF, Target, find_target

_LOCK_SECONDS = 0.5
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MARGIN = 64 << 20  # bytes that stay free on the disk


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted file.

    Attributes:
        path: Where it is.
        made: Was it made by this call, and not found?
        sidecar: What is noted of it.
        notes: Sentences for whoever waited: what did not go as it was to, though the file is right.
    """

    path: Path
    made: bool
    sidecar: Sidecar
    notes: tuple[str, ...] = ()


ALONE = Run()  # nobody waits


def converted_once(
    source: Path,
    target: str,
    folder: Path,
    run: Run = ALONE,
) -> Converted:
    """Return a diffusion model in another precision: the file that is there, or one that is made now.

    Args:
        source: A checkpoint or a diffusion model, as safetensors, whole or in parts, or as GGUF that is not
            quantised.
        target: Name of a target in targets.py, such as "fp8_e4m3fn_scaled" or "gguf_Q4_K_M".
        folder: The folder for diffusion models; the file lies in a folder below, such as fp8 or gguf.
        run: Who waits for it, and where the arithmetic is done.

    Raises:
        ConversionRefusedError: It makes no sense; `reason` says whether the source can be used as it is.
        ConversionCancelledError: Somebody asked to stop. What is done is kept for the next try.
        ModelFileError: The source is missing, damaged, or changed meanwhile.
        LunaError: It cannot be written: the disk is full, the folder cannot be written.
    """
    wanted = find_target(target)
    path = located(source)

    def find(identity: Identity) -> Found:
        return find_converted(path, identity, wanted, folder)

    goal = Goal(
        wanted, find, lambda: place_for(path, wanted, folder), old_places(path, wanted, folder)
    )
    return _converted(path, goal, run)


def converted_again(
    source: Path,
    target: str,
    folder: Path,
    run: Run = ALONE,
) -> Converted:
    """Make a file as `converted_once` does, also where it is there."""
    wanted = find_target(target)
    path = located(source)
    goal = Goal(wanted, lambda identity: None, lambda: place_for(path, wanted, folder))
    return _converted(path, goal, run)


def convert_to(
    source: Path,
    target: str,
    output: Path,
    run: Run = ALONE,
) -> Converted:
    """Convert a diffusion model into a file of a name of one's own; else as `converted_once`.

    The diffusion model of a checkpoint may also be written in the precision that it has.

    Args:
        source: A checkpoint or a diffusion model, as safetensors, whole or in parts, or as GGUF that is not
            quantised.
        target: Name of a target in targets.py.
        output: The file, with the ending of the target's container.
        run: Who waits for it, and where the arithmetic is done.

    Raises:
        InputError: The ending is wrong, there is no such device, or there is a file that was not made of this source.
        LunaError: As `converted_once`.
    """
    wanted = find_target(target)
    path, place = located(source), output.parent.resolve() / output.name
    if place.suffix.lower() != f".{wanted.container}":
        raise InputError(
            f"'{place.name}' does not end with .{wanted.container}, as {wanted.label} has to.",
            "Write it with this ending.",
        )

    def find(identity: Identity) -> Found:
        return find_at(place, identity, wanted)

    goal = Goal(wanted, find, lambda: own_place(path, place), takes_out=True)
    return _converted(path, goal, run)


Found = tuple[Path, Sidecar] | None


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted.

    Attributes:
        target: The precision.
        find: Looks for the file that was made of a source already.
        place: Says where it is made otherwise.
        old_places: Files that others may have made of it.
        takes_out: Is it worth the while to take the model out of a checkpoint as it is?
    """

    target: Target
    find: Callable[[Identity], Found]
    place: Callable[[], Path]
    old_places: tuple[Path, ...] = ()
    takes_out: bool = False


def _converted(path: Path, goal: Goal, run: Run) -> Converted:
    find_device(run.device)
    found = goal.find(read_source(path).identity)
    if found is not None:
        return found_again(found)
    source = open_source(path)
    gains = len(source.files) > 1 or (goal.takes_out and source.is_checkpoint)  # a file of its own
    if source.precision == goal.target.name and not gains:
        raise ConversionRefusedError(
            Reason.SAME_PRECISION,
            f"'{path.name}' is in {goal.target.name} already.",
            "Use it as it is, or choose another precision.",
        )
    for old in goal.old_places:
        sidecar = adopt(source, goal.target, old)
        if sidecar is not None:
            return Converted(old, False, sidecar)
    make_plan = gguf_plan if goal.target.container == GGUF else safetensors_plan
    return make_file(source, make_plan(source, goal.target.name), goal, run)


def make_file(source: Source, plan: Plan, goal: Goal, run: Run) -> Converted:
    """Write a plan, while nobody else does; or take the file that somebody else has written meanwhile."""
    while True:
        place = goal.place()
        with _locked(place, run):
            found = goal.find(source.identity)  # somebody else may have made it meanwhile
            if found is not None:
                return found_again(found)
            if goal.place() == place:
                return _convert(source, goal.target, plan, place, run)


def found_again(found: tuple[Path, Sidecar]) -> Converted:
    """Return a file that is there, and note that it is used."""
    path, sidecar = found
    return Converted(path, False, note_use(path, sidecar))


@contextlib.contextmanager
def _locked(place: Path, run: Run) -> Iterator[None]:
    """Hold the lock of a file that is to be made, among all processes of the machine."""
    lock_path = part_files.lock_of(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock: filelock.BaseFileLock = filelock.FileLock(lock_path)
        try:
            _acquire(lock, place, run)
        except NotImplementedError:  # a file system without locks, as on some network drives
            lock = filelock.SoftFileLock(lock_path)
            _acquire(lock, place, run)
    except OSError as error:
        raise _unwritable(place, error) from error
    try:
        yield
    finally:
        lock.release()
        if place.exists():
            # Whoever waits still finds the file; on Windows the lock stays while somebody does.
            with contextlib.suppress(OSError):
                lock_path.unlink()


def _acquire(lock: filelock.BaseFileLock, place: Path, run: Run) -> None:
    while True:
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=_LOCK_SECONDS)
            return
        if run.is_cancelled():
            raise ConversionCancelledError(f"Waiting for '{place.name}' was stopped.")
        run.on_progress(Progress(0, 1, f"another process makes {place.name}"))


def _convert(source: Source, target: Target, plan: Plan, place: Path, run: Run) -> Converted:
    """Make a file whose lock is held."""
    size, head = plan.layout.total, plan.layout.head
    key = _key(source.identity, target, head)
    finished = part_files.read_record(place, key)
    watch = Watch(run, lambda done: part_files.write_record(place, key, size, dict(done)))
    try:
        if not finished:
            part_files.remove_part(place)
        _check_space(place, size)
        if not finished:
            part_files.begin_part(place, size, head)
        notes = streaming.write_tensors(
            plan, source.files, part_files.part_of(place), finished, watch
        )
        check_unchanged(source)
        sidecar = _sidecar(source, target, plan, finished)
        write_sidecar(place, sidecar)
        part_files.finish_part(place)
    except ModelFileError:  # of this source nothing can be made
        part_files.remove_part(place)
        raise
    except OSError as error:
        if error.errno in _FULL:
            part_files.remove_part(place)  # a full disk harms everything else
        raise _unwritable(place, error) from error
    return Converted(place, True, sidecar, notes)


def _key(identity: Identity, target: Target, head: bytes) -> str:
    """Return what decides about the bytes of a part."""
    parts = [identity.size, identity.mtime_ns, identity.digest, target.name, RECIPE_VERSION]
    return hashlib.sha256(json.dumps(parts).encode() + head).hexdigest()


def _sidecar(source: Source, target: Target, plan: Plan, finished: Mapping[str, Any]) -> Sidecar:
    made = now()
    head = plan.layout.head
    return Sidecar(
        target=target.name,
        recipe=RECIPE_VERSION,
        source=str(source.path),
        identity=source.identity,
        size=plan.layout.total,
        head=len(head),
        digest=hashlib.sha256(head).hexdigest(),
        tool=f"luna-collection {PACKAGE_VERSION}",
        created=made,
        used=made,
        layers={
            tensor.name: {"type": tensor.encoding.type, **finished[tensor.name]}
            for tensor in plan.tensors
        },
    )


def _check_space(place: Path, size: int) -> None:
    part = part_files.part_of(place)
    there = getattr(part.stat(), "st_blocks", 0) * 512 if part.exists() else 0
    free = shutil.disk_usage(place.parent).free
    if free < size - there + _MARGIN:
        raise LunaError(
            f"'{place.name}' needs {size / 1e9:.1f} GB, and '{place.parent}' has only {free / 1e9:.1f} GB free.",
            "Make room on the disk, or choose a smaller precision.",
        )


def _unwritable(place: Path, error: OSError) -> LunaError:
    if error.errno in _FULL:
        return LunaError(
            f"The disk is full: '{place.name}' could not be written to '{place.parent}'.",
            "Make room, and try again.",
        )
    return InputError(
        f"'{place}' cannot be made: {error.strerror or error}.",
        "Check the folder's permissions and the disk.",
    )
