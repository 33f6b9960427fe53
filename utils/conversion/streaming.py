"""Carries out a plan: reads, encodes and writes in chunks, with several threads.

No tensor is ever in memory as a whole. Threads take chunks of about a million elements; each has buffers of its
own, a few chunks large. What is finished is noted now and then, after its bytes are on the disk, so that
interrupted work goes on from there.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..quantization.quality import Quality
from .devices import CPU, Encoder, find_device
from .encodings import TORCH_TYPES, Scratch, check_range, magnitude, scale_of
from .measuring import compare, noted
from .part_files import ThreadedFile
from .plan import Plan, PlannedTensor
from .refusal import ConversionCancelledError

CHUNK_ELEMENTS = 1 << 20
NOTE_SECONDS = 10.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is.

    Attributes:
        done: Bytes of the source that are converted.
        total: Bytes of the source that have to be.
        doing: What is going on, in a few words.
    """

    done: int
    total: int
    doing: str


def _ignore(progress: Progress) -> None:
    """Say nothing."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Run:
    """How a conversion is run.

    Attributes:
        on_progress: Is told how far it is now and then, in the thread that converts.
        is_cancelled: Is asked often whether to stop.
        device: Where the arithmetic is done, as `devices.find_device` takes it. It never changes the file.
    """

    on_progress: Callable[[Progress], None] = _ignore
    is_cancelled: Callable[[], bool] = _never
    device: str = CPU


@dataclass(frozen=True, slots=True)
class Watch:
    """Who waits for the conversion.

    Attributes:
        run: How it is run.
        on_finished: Is handed what is finished, when it is time to note it.
    """

    run: Run
    on_finished: Callable[[Mapping[str, Any]], None]


@dataclass(slots=True)
class _Work:
    """A tensor that is being converted: its chunks under way, in order."""

    tensor: PlannedTensor
    scale: float
    chunks: list[Future[Quality]] = field(default_factory=list)


def thread_count() -> int:
    """Return how many threads convert: one for each core that this process may use, up to eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, 8))


def write_tensors(
    plan: Plan, sources: Sequence[Path], part: Path, finished: dict[str, Any], watch: Watch
) -> tuple[str, ...]:
    """Write the tensors of a plan into a file that has its final size; those in `finished` are there.

    Returns:
        Sentences about what was worked out on the CPU, although it was to be on another device.

    Raises:
        ConversionCancelledError: Somebody asked to stop.
        ModelFileError: The source is cut short, or holds no numbers.
        OSError: The disk is full, or fails.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)  # the threads are ours; those of torch would only wait for each other
    stream = _Stream(plan, sources, part, finished, watch)
    try:
        stream.run()
        return tuple(stream.encoder.notes)
    finally:
        stream.close()
        torch.set_num_threads(threads_before)


class _Stream:
    """One run over a plan."""

    def __init__(
        self,
        plan: Plan,
        sources: Sequence[Path],
        part: Path,
        finished: dict[str, Any],
        watch: Watch,
    ) -> None:
        self.plan = plan
        self.finished = finished
        self.watch = watch
        self.sources = [ThreadedFile(source, "rb") for source in sources]
        self.part = ThreadedFile(part, "r+b")
        self.threads = thread_count()
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="luna-convert")
        self.stop = threading.Event()
        self.own = threading.local()
        self.encoder = Encoder(find_device(watch.run.device))
        self.total = sum(tensor.source_bytes for tensor in plan.tensors)
        self.done = sum(t.source_bytes for t in plan.tensors if t.name in finished)
        self.noted = time.monotonic()

    def run(self) -> None:
        """Convert what is not finished."""
        under_way: deque[_Work] = deque()
        waiting = 0
        for tensor in self.plan.tensors:
            if tensor.name in self.finished:
                continue
            work = _Work(tensor, self._scale(tensor))
            for first, count in _chunks(tensor):
                work.chunks.append(
                    self.pool.submit(self._convert, tensor, work.scale, first, count)
                )
            under_way.append(work)
            waiting += len(work.chunks)
            while waiting > 2 * self.threads and under_way:
                waiting -= len(under_way[0].chunks)
                self._finish(under_way.popleft())
        while under_way:
            self._finish(under_way.popleft())
        self._note()

    def close(self) -> None:
        """Stop the threads, and close the files."""
        self.stop.set()
        self.pool.shutdown(wait=True, cancel_futures=True)
        for source in self.sources:
            source.close()
        self.part.close()

    def _scale(self, tensor: PlannedTensor) -> float:
        """Return the scale of a tensor, for which it is read once before it is converted."""
        if not tensor.encoding.scaled:
            return 1.0
        chunks = [
            self.pool.submit(self._magnitude, tensor, first, count)
            for first, count in _chunks(tensor)
        ]
        largest = max((self._result(chunk) for chunk in chunks), default=0.0)
        return scale_of(largest, tensor.encoding)

    def _finish(self, work: _Work) -> None:
        quality = sum(map(self._result, work.chunks), Quality())
        tensor = work.tensor
        if tensor.encoding.scaled:
            scale = torch.tensor([work.scale], dtype=torch.float32)
            self.part.write(_bytes_of(scale), self.plan.layout.places[tensor.slots[-1].name])
        self.finished[tensor.name] = {} if tensor.encoding.exact else noted(quality)
        self.done += tensor.source_bytes
        self.watch.run.on_progress(Progress(self.done, self.total, tensor.name))
        if time.monotonic() - self.noted > NOTE_SECONDS:
            self._note()

    def _note(self) -> None:
        self.part.sync()
        self.watch.on_finished(self.finished)
        self.noted = time.monotonic()

    def _result(self, chunk: Future[Any]) -> Any:
        while True:
            if self.watch.run.is_cancelled():
                self._note()
                raise ConversionCancelledError(
                    "The conversion was stopped.", "What is done is kept for the next try."
                )
            wait([chunk], timeout=_POLL_SECONDS)
            if chunk.done():
                return chunk.result()

    def _magnitude(self, tensor: PlannedTensor, first: int, count: int) -> float:
        if self.stop.is_set():
            return 0.0
        return magnitude(tensor.name, self._read(tensor, first, count))

    def _convert(self, tensor: PlannedTensor, scale: float, first: int, count: int) -> Quality:
        """Read, encode and write a chunk; compare it with its source."""
        if self.stop.is_set():
            return Quality()
        encoding = tensor.encoding
        values = self._read(tensor, first, count)
        if not encoding.exact:
            check_range(tensor.name, magnitude(tensor.name, values), encoding)
        data = self.encoder.encode(tensor.name, encoding, values, scale)
        self._write(tensor, data, first // encoding.unit, count // encoding.unit)
        if encoding.exact:
            return Quality()
        return compare(values, data, scale, encoding)

    def _write(self, tensor: PlannedTensor, data: torch.Tensor, unit: int, units: int) -> None:
        """Write the bytes of some units, from a unit on, and behind them those of their scales."""
        places, encoding = self.plan.layout.places, tensor.encoding
        split = units * encoding.unit_bytes
        self.part.write(_bytes_of(data[:split]), places[tensor.name] + unit * encoding.unit_bytes)
        if encoding.side_bytes:
            place = places[tensor.slots[1].name] + unit * encoding.side_bytes
            self.part.write(_bytes_of(data[split:]), place)

    def _read(self, tensor: PlannedTensor, first: int, count: int) -> torch.Tensor:
        """Return elements of the source [count]."""
        dtype = TORCH_TYPES[tensor.type]
        values = self._scratch().take("read", count, dtype)
        into = _bytes_of(values)
        skip, filled = first * dtype.itemsize, 0
        for piece in tensor.pieces:
            if skip >= piece.size:
                skip -= piece.size
                continue
            size = min(piece.size - skip, len(into) - filled)
            source = self.sources[piece.file]
            source.read_into(into[filled : filled + size], piece.begin + skip)
            filled += size
            skip = 0
            if filled == len(into):
                break
        return values

    def _scratch(self) -> Scratch:
        scratch: Scratch | None = getattr(self.own, "scratch", None)
        if scratch is None:
            scratch = self.own.scratch = Scratch()
        return scratch


def _chunks(tensor: PlannedTensor) -> Iterator[tuple[int, int]]:
    """Yield first element and count of each chunk: whole units, about CHUNK_ELEMENTS."""
    step = max(CHUNK_ELEMENTS // tensor.encoding.unit, 1) * tensor.encoding.unit
    for first in range(0, tensor.count, step):
        yield first, min(step, tensor.count - first)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.view(torch.uint8).numpy().data)
