"""The converted files of a folder: what there is, what is old, and removing it.

Only files that a sidecar says were made here count, and what interrupted conversions left. Everything else in the
folder is somebody's own.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path

import filelock

from ..errors import InputError
from . import part_files
from .sidecars import ENDING, Sidecar, now, read_sidecar, sidecar_path

_PART = ".part"
_CONFIRMATION = "delete"


@dataclass(frozen=True, slots=True)
class Kept:
    """A converted file, or what an interrupted conversion left of one.

    Attributes:
        path: The file; of a left-over the place where it would have been.
        size: Its bytes on the disk.
        used: When it was asked for last; of a left-over, when it was written last.
        sidecar: How it was made; None for a left-over.
    """

    path: Path
    size: int
    used: datetime
    sidecar: Sidecar | None

    def age(self, at: datetime) -> timedelta:
        """Return how long ago it was used."""
        return at - self.used


def present() -> datetime:
    """Return the time, as sidecars know it."""
    return datetime.fromisoformat(now())


class Action(str, Enum):
    """What can be done."""

    LIST = "list"
    STATS = "stats"
    CLEAR_OLD = "clear_old"
    PURGE_ALL = "purge_all"


def manage(folder: Path, action: Action, *, days: int, dry: bool, confirm: str) -> str:
    """Do it, and return a report.

    Args:
        folder: The folder; those below it count.
        action: What is to be done.
        days: For CLEAR_OLD: files that were not used for so many days.
        dry: Only say what would be removed?
        confirm: For PURGE_ALL without `dry`: has to be "delete".

    Raises:
        InputError: The word is missing.
    """
    files = converted_files(folder)
    if action is Action.LIST:
        return list_report(files, folder, present())
    if action is Action.STATS:
        return stats_report(files, folder)
    if action is Action.PURGE_ALL and not dry and confirm.strip().lower() != _CONFIRMATION:
        raise InputError(
            f"To remove all {len(files)} converted files, a word is needed.",
            f"Write {_CONFIRMATION} into 'confirm', or switch dry_run on to see what would be removed.",
        )
    chosen = unused_since(files, days, present()) if action is Action.CLEAR_OLD else files
    removed, kept_back = (chosen, []) if dry else remove(chosen)
    return removal_report(removed, kept_back, folder, dry)


def converted_files(folder: Path) -> list[Kept]:
    """Return the converted files in a folder and the folders below it, those used last first."""
    return sorted([*_whole(folder), *_left_over(folder)], key=lambda kept: kept.used, reverse=True)


def unused_since(files: Iterable[Kept], days: int, at: datetime) -> list[Kept]:
    """Return the files that were not used for so many days."""
    return [kept for kept in files if kept.age(at) >= timedelta(days=days)]


def remove(files: Iterable[Kept]) -> tuple[list[Kept], list[tuple[Kept, str]]]:
    """Remove converted files with their sidecars, and left-overs.

    Returns:
        What was removed, and what could not be, each with the reason.
    """
    removed, kept_back = [], []
    for kept in files:
        reason = _remove(kept)
        if reason:
            kept_back.append((kept, reason))
        else:
            removed.append(kept)
    return removed, kept_back


def list_report(files: Sequence[Kept], folder: Path, at: datetime) -> str:
    """Return a line for each file: name, size, last use, source."""
    return "\n".join([_total(files, folder), *(_line(kept, folder, at) for kept in files)])


def stats_report(files: Sequence[Kept], folder: Path) -> str:
    """Return how many files there are of each precision, and their sizes."""
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for kept in files:
        kind = kept.sidecar.target if kept.sidecar else "unfinished"
        sizes[kind] += kept.size
        counts[kind] += 1
    lines = [f"{kind}: {counts[kind]}, {_size(sizes[kind])}" for kind, _ in sizes.most_common()]
    return "\n".join([_total(files, folder), *lines])


def removal_report(
    removed: Sequence[Kept], kept_back: Sequence[tuple[Kept, str]], folder: Path, dry: bool
) -> str:
    """Return what was removed, or would be."""
    at = present()
    verb = "Would remove" if dry else "Removed"
    freed = _size(sum(kept.size for kept in removed))
    head = f"{verb} {len(removed)} {_files(len(removed))}, {freed}."
    if dry and removed:
        head += " Nothing was removed: dry_run is on."
    lines = [_line(kept, folder, at) for kept in removed]
    lines += [f"Not removed: {_name(kept.path, folder)}: {reason}" for kept, reason in kept_back]
    return "\n".join([head, *lines])


def _whole(folder: Path) -> Iterator[Kept]:
    for note in folder.rglob(f"*{ENDING}"):
        path = note.with_name(note.name.removesuffix(ENDING))
        sidecar = read_sidecar(path)
        if sidecar is None or not path.is_file():
            continue
        yield Kept(path, _on_disk(path), datetime.fromisoformat(sidecar.used), sidecar)


def _left_over(folder: Path) -> Iterator[Kept]:
    for part in folder.rglob(f".*{_PART}"):
        path = part.with_name(part.name.removesuffix(_PART).removeprefix("."))
        if part_files.part_of(path) == part and part_files.record_of(path).exists():
            written = datetime.fromtimestamp(part.stat().st_mtime, present().tzinfo)
            yield Kept(path, _on_disk(part), written, None)


def _remove(kept: Kept) -> str:
    """Remove a file; return why not, or nothing."""
    lock = filelock.FileLock(part_files.lock_of(kept.path))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return "it is being made just now"
    except OSError as error:
        return error.strerror or str(error)
    try:
        if kept.sidecar is not None:
            if read_sidecar(kept.path) is None:
                return "it was replaced meanwhile"
            os.unlink(kept.path)
            sidecar_path(kept.path).unlink(missing_ok=True)
        else:
            part_files.remove_part(kept.path)
            if not kept.path.exists():  # it may have been stopped just before the file was there
                sidecar_path(kept.path).unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # somebody may wait for it, on Windows
            part_files.lock_of(kept.path).unlink()
    return ""


def _total(files: Sequence[Kept], folder: Path) -> str:
    size = _size(sum(kept.size for kept in files))
    return f"{len(files)} converted {_files(len(files))}, {size}, in {folder}"


def _line(kept: Kept, folder: Path, at: datetime) -> str:
    days = kept.age(at).days
    used = "used today" if days < 1 else f"used {days} {'day' if days == 1 else 'days'} ago"
    if kept.sidecar is None:
        return f"{_name(kept.path, folder)}: {_size(kept.size)}, unfinished"
    source = Path(kept.sidecar.source)
    state = "" if source.exists() else ", which is gone"
    return f"{_name(kept.path, folder)}: {_size(kept.size)}, {used}, made of {source.name}{state}"


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _files(count: int) -> str:
    return "file" if count == 1 else "files"


def _on_disk(path: Path) -> int:
    """Return the bytes that a file takes: an unfinished one has holes."""
    state = path.stat()
    blocks = getattr(state, "st_blocks", None)
    return state.st_size if blocks is None else min(state.st_size, blocks * 512)
