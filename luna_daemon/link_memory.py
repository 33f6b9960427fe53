"""The memory of one connection of a client: the arena it fills, those it reads, and that of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .protocol.messages import OfferArena
from .protocol.segments import Segment
from .transport.arena import (
    MEMFD,
    ArenaReader,
    ArenaWriter,
    SharedRegion,
    attach_memfd,
    attach_named,
)
from .transport.result_memory import ResultMemory


class LinkMemory:
    """Arenas as the daemon offers and drops them. One thread at a time maps and drops; any may look."""

    def __init__(self) -> None:
        self.upload: ArenaWriter | None = None
        self.readers: Mapping[int, ArenaReader] = {}
        self.results = ResultMemory()
        self._dropped: list[SharedRegion] = []

    def map(self, offer: OfferArena, take_fd: Callable[[], int]) -> None:
        """Map an arena that the daemon has made.

        Raises:
            DaemonError: It cannot be mapped here.
        """
        if offer.backing == MEMFD:
            region = attach_memfd(take_fd(), offer.nbytes)
        else:
            region = attach_named(offer.name, offer.nbytes)
        if offer.writer == "client":
            self.upload = ArenaWriter(offer.arena, region)
        else:
            self.readers = {**self.readers, offer.arena: ArenaReader(offer.arena, region)}

    def drop(self, arena: int) -> None:
        """Give an arena up. Whoever took `readers` before still finds it there, until `unmap`."""
        readers = dict(self.readers)
        dropped = readers.pop(arena, None)
        self.readers = readers
        if dropped is not None:
            self._dropped.append(dropped.region)

    def free(self, segments: Sequence[Segment]) -> None:
        """Use the places of sent tensors again."""
        upload = self.upload
        for segment in segments:
            if segment.slot is not None and upload is not None:
                upload.free(segment.slot.offset, segment.slot.generation)

    def unmap(self, *, everything: bool) -> None:
        """Unmap what was dropped, or everything. Nobody may look into it any more."""
        regions, self._dropped = self._dropped, []
        if everything:
            regions += [reader.region for reader in self.readers.values()]
            regions += [self.upload.region] if self.upload is not None else []
            self.readers, self.upload = {}, None
            self.results.close()
        for region in regions:
            region.close()
