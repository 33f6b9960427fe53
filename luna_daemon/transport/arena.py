"""Shared memory with one writer: an arena.

The daemon makes every arena and hands it to both ends: a memfd over the unix socket on Linux, a named
segment elsewhere. The one writer gives out slots; a reader copies a slot's bytes and acknowledges it,
and only then is the room used again. Each slot starts with a header that holds its generation, so
that a reader with an outdated slot gets an error and never another request's bytes.

Pages are touched only where slots were written, lowest offsets first, and are reused: a fresh segment
per call costs ten times as much (page faults).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import struct
import sys
import threading
from collections.abc import Callable
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import cast

from ..errors import BadRequestError, RejectedError
from ..protocol.segments import Slot

try:
    import fcntl
except ImportError:  # Windows has neither fcntl nor memfd
    fcntl = None  # type: ignore[assignment]

ALIGNMENT = 64
_HEADER = struct.Struct("<QQ")  # generation, payload bytes; padded to ALIGNMENT

_NAME_PREFIX = "luna-"  # then the maker's pid; macOS allows 31 characters in all

MEMFD = "memfd"
NAMED = "named"


def has_memfd() -> bool:
    """Can this platform make anonymous shared memory and pass it over a unix socket?"""
    return hasattr(os, "memfd_create") and fcntl is not None


class SharedRegion:
    """A piece of memory that several processes map. Made by one of the functions below."""

    def __init__(
        self,
        backing: str,
        memory: memoryview,
        close: Callable[[], None],
        *,
        fd: int | None = None,
        name: str = "",
    ) -> None:
        self.backing = backing
        self.memory = memory
        self.nbytes = len(memory)
        self.fd = fd
        self.name = name
        self._close = close
        self._closed = False

    def close(self) -> None:
        """Unmap, and remove the name if this process made it. Views in use keep the memory alive."""
        if self._closed:
            return
        self._closed = True
        self.memory.release()
        self._close()


def create_region(backing: str, nbytes: int) -> SharedRegion:
    """Make a region of `nbytes`, zeroed.

    Raises:
        RejectedError: The machine has no room for it in shared memory.
    """
    try:
        return _create_memfd(nbytes) if backing == MEMFD else _create_named(nbytes)
    except OSError as error:
        raise RejectedError(
            f"There is no room for {nbytes >> 20} MB of shared memory ({error.strerror}).",
            "Give the machine or container more of it (docker: --shm-size).",
        ) from error


def attach_memfd(fd: int, nbytes: int) -> SharedRegion:
    """Map a memfd. Its descriptor is closed; the mapping keeps the memory.

    Raises:
        BadRequestError: The memfd is smaller than was said, or this process cannot map it.
    """
    try:
        if os.fstat(fd).st_size < nbytes:
            raise BadRequestError("A shared-memory arena is smaller than was announced.")
        mapped = mmap.mmap(fd, nbytes)
    except OSError as error:
        raise BadRequestError(f"Shared memory cannot be mapped ({error.strerror}).") from error
    finally:
        os.close(fd)
    return SharedRegion(MEMFD, memoryview(mapped), lambda: _close_map(mapped))


def attach_named(name: str, nbytes: int) -> SharedRegion:
    """Map a named region that another process made; that process alone removes the name.

    Raises:
        BadRequestError: There is no such region here (another container, perhaps), or it is too small.
    """
    try:
        segment = _attach_untracked(name)
    except (OSError, ValueError) as error:
        raise BadRequestError(
            "A named shared-memory arena cannot be found on this side."
        ) from error
    if segment.size < nbytes:
        segment.close()
        raise BadRequestError("A shared-memory arena is smaller than was announced.")
    return _named_region(segment, nbytes, ours=False)


def sweep_orphans(is_alive: Callable[[int], bool]) -> list[str]:
    """Remove named regions of daemons that were killed; return their names.

    Only Linux lists such names. On Windows a region ends with its last user, and on macOS Python's
    resource tracker removes it.
    """
    folder = Path("/dev/shm")
    if not sys.platform.startswith("linux") or not folder.is_dir():
        return []
    removed = []
    for path in folder.glob(f"{_NAME_PREFIX}*-*"):
        maker = path.name.removeprefix(_NAME_PREFIX).split("-")[0]
        if maker.isdecimal() and not is_alive(int(maker)):
            with contextlib.suppress(
                OSError
            ):  # another user's, or swept by another daemon just now
                path.unlink()
                removed.append(path.name)
    return removed


def _create_memfd(nbytes: int) -> SharedRegion:
    fd = os.memfd_create("luna-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, nbytes)
        # Nobody who gets the descriptor can shrink the memory under a reader's feet (SIGBUS).
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        )
        mapped = mmap.mmap(fd, nbytes)
    except OSError:
        os.close(fd)
        raise

    def close() -> None:
        _close_map(mapped)
        os.close(fd)

    return SharedRegion(MEMFD, memoryview(mapped), close, fd=fd)


def _create_named(nbytes: int) -> SharedRegion:
    name = f"{_NAME_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    segment = shared_memory.SharedMemory(name=name, create=True, size=nbytes)
    try:
        _reserve(segment.name, nbytes)
    except OSError:
        segment.close()
        segment.unlink()
        raise
    return _named_region(segment, nbytes, ours=True)


def _named_region(segment: shared_memory.SharedMemory, nbytes: int, *, ours: bool) -> SharedRegion:
    def close() -> None:
        if ours:
            _remove_name(segment)
        try:
            segment.close()
        except BufferError:  # a view is still in use; its end frees the mapping
            segment._mmap = None  # type: ignore[attr-defined]
            segment.close()  # the rest: its descriptor

    memory = cast(memoryview, segment.buf)[:nbytes]
    return SharedRegion(NAMED, memory, close, name=segment.name)


def _remove_name(segment: shared_memory.SharedMemory) -> None:
    try:
        segment.unlink()
    except FileNotFoundError:  # gone already: systemd removes a user's names when the user logs out
        resource_tracker.unregister(segment._name, "shared_memory")  # type: ignore[attr-defined]


_attach_lock = threading.Lock()


def _attach_untracked(name: str) -> shared_memory.SharedMemory:
    """Attach without the resource tracker, which would remove the name when *this* process ends."""
    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name=name, track=False)
    with _attach_lock:
        register = resource_tracker.register
        resource_tracker.register = lambda *args: None
        try:
            return shared_memory.SharedMemory(name=name)
        finally:
            resource_tracker.register = register


def _reserve(name: str, nbytes: int) -> None:
    """Take the pages now: without this, writing to a full /dev/shm kills the process (SIGBUS)."""
    if not sys.platform.startswith("linux"):
        return
    fd = os.open(f"/dev/shm/{name}", os.O_RDWR)
    try:
        os.posix_fallocate(fd, 0, nbytes)
    finally:
        os.close(fd)


def _close_map(mapped: mmap.mmap) -> None:
    try:
        mapped.close()
    except BufferError:
        return  # a tensor still looks into it; the mapping ends with that tensor


class ArenaWriter:
    """The writing end: gives out slots and takes them back. Thread-safe."""

    def __init__(self, arena: int, region: SharedRegion) -> None:
        self.arena = arena
        self.region = region
        self._lock = threading.Lock()
        self._generation = 0
        self._used: dict[int, tuple[int, int]] = {}  # offset → (bytes with header, generation)

    def allocate(self, nbytes: int) -> tuple[Slot, memoryview] | None:
        """Return a slot and its memory, or None when there is no room."""
        need = ALIGNMENT + -(-nbytes // ALIGNMENT) * ALIGNMENT
        with self._lock:
            offset = self._find(need)
            if offset is None:
                return None
            self._generation += 1
            generation = self._generation
            self._used[offset] = (need, generation)
            _HEADER.pack_into(self.region.memory, offset, generation, nbytes)
        start = offset + ALIGNMENT
        slot = Slot(arena=self.arena, offset=offset, generation=generation)
        return slot, self.region.memory[start : start + nbytes]

    def free(self, offset: int, generation: int) -> bool:
        """Take a slot back; False when it is not the one that is in use there (a late or forged ack)."""
        with self._lock:
            if self._used.get(offset, (0, -1))[1] != generation:
                return False
            del self._used[offset]
            _HEADER.pack_into(self.region.memory, offset, 0, 0)
            return True

    @property
    def used_bytes(self) -> int:
        """Bytes in slots that have not been acknowledged."""
        with self._lock:
            return sum(size for size, _ in self._used.values())

    def _find(self, need: int) -> int | None:
        """First fit from the bottom: as few pages as possible are ever touched."""
        end = 0
        for offset in sorted(self._used):
            if offset - end >= need:
                return end
            end = offset + self._used[offset][0]
        return end if self.region.nbytes - end >= need else None


class ArenaReader:
    """The reading end."""

    def __init__(self, arena: int, region: SharedRegion) -> None:
        self.arena = arena
        self.region = region

    def view(self, slot: Slot, nbytes: int) -> memoryview:
        """Return the slot's bytes. Copy them, then `check` the slot again.

        Raises:
            BadRequestError: The slot lies outside the arena, has another size, or was used anew.
        """
        end = slot.offset + ALIGNMENT + nbytes
        if slot.offset % ALIGNMENT or end > self.region.nbytes:
            raise BadRequestError("A tensor's place in shared memory lies outside the arena.")
        self.check(slot, nbytes)
        return self.region.memory[slot.offset + ALIGNMENT : end]

    def check(self, slot: Slot, nbytes: int) -> None:
        """Raise BadRequestError when the slot no longer holds what it was announced for."""
        if _HEADER.unpack_from(self.region.memory, slot.offset) != (slot.generation, nbytes):
            raise BadRequestError("A tensor in shared memory was replaced before it was read.")
