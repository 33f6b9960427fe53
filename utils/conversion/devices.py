"""Where the arithmetic of a conversion is done: on the CPU, or on a graphics card that gives the same bytes.

What is worked out elsewhere is made of steps that every device rounds alike: one operation at a time, and sums
in an order of their own. A sample is encoded in both places before a device is trusted with a way of encoding,
so a file never depends on where it was made.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from ..errors import InputError
from .encodings import Encoding, Scratch

AUTO, CPU = "auto", "cpu"
_SAMPLE = 1 << 16  # elements that are encoded in both places
_OUT_OF_MEMORY = "out of memory"  # in the words of every driver


def find_device(name: str) -> torch.device:
    """Return a device by its name: auto, cpu, cuda, or cuda:1 for the second graphics card.

    Raises:
        InputError: There is no such device.
    """
    wanted = name.strip().lower()
    there = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if wanted == AUTO:
        wanted = there[0] if there else CPU
    kind, _, number = wanted.partition(":")
    if kind not in (CPU, "cuda") or (number and not number.isdecimal()):
        raise InputError(
            f"There is no device '{name}'.",
            "Write auto, cpu, cuda, or cuda:1 for the second graphics card.",
        )
    if kind == CPU:
        return torch.device(CPU)
    if not there:
        raise InputError(
            f"This machine has no device '{wanted}': PyTorch {torch.__version__} finds no graphics card.",
            "Choose cpu, or install PyTorch for your card.",
        )
    if int(number or 0) >= len(there):
        raise InputError(
            f"This machine has no device '{wanted}', only {', '.join(there)}.",
            "Choose one of these.",
        )
    return torch.device("cuda", int(number or 0))


class Encoder:
    """Encodes chunks on a device, and on the CPU what does not come out the same or does not fit there.

    Several threads may use it.

    Args:
        device: Where.

    Attributes:
        notes: Sentences about what was worked out on the CPU instead, each said once.
    """

    def __init__(self, device: torch.device) -> None:
        self.notes: list[str] = []
        self._device = device
        self._own = threading.local()
        self._lock = threading.Lock()
        self._trusted: dict[tuple[object, ...], bool] = {}
        self._too_large: set[str] = set()

    def encode(self, name: str, encoding: Encoding, values: Tensor, scale: float) -> Tensor:
        """Return the bytes of a chunk, on the CPU; they may lie in buffers until this thread's next chunk.

        Args:
            name: Of the tensor that the chunk is of.
            encoding: How.
            values: The chunk's elements [n], on the CPU.
            scale: The tensor's scale.
        """
        if self._takes(name, encoding, values.dtype):
            data = self._elsewhere(name, encoding, values, scale)
            if data is not None:
                return data
        return encoding.encode(values, scale, self._scratch(torch.device(CPU)))

    def _elsewhere(
        self, name: str, encoding: Encoding, values: Tensor, scale: float
    ) -> Tensor | None:
        """Return the bytes of a chunk from the device, or None where its memory is full."""
        try:
            return encode_on(self._device, encoding, values, scale, self._scratch(self._device))
        except RuntimeError as error:
            if _OUT_OF_MEMORY not in str(error).lower():
                raise
        with self._lock:
            if not self._too_large:
                self.notes.append(
                    f"'{name}' was worked out on the CPU, for {self._device} has no memory left, and so was "
                    "what else found none; the file is the same."
                )
            self._too_large.add(name)
        return None

    def _takes(self, name: str, encoding: Encoding, dtype: torch.dtype) -> bool:
        if self._device.type == CPU or not encoding.anywhere or name in self._too_large:
            return False
        key = (encoding.type, encoding.scaled, dtype)
        with self._lock:
            if key not in self._trusted:
                self._trusted[key] = self._same_bytes(encoding, dtype)
            return self._trusted[key]

    def _same_bytes(self, encoding: Encoding, dtype: torch.dtype) -> bool:
        """Tell whether a sample comes out the same as on the CPU."""
        units = max(_SAMPLE // encoding.unit, 1)
        draw = torch.Generator().manual_seed(0)
        sample = torch.randn(units * encoding.unit, generator=draw).mul_(0.05)
        sample[: len(sample) // 4] *= 20  # what a scale cuts off
        sample[-len(sample) // 8 :] *= 1e-6
        values, scratch = sample.to(dtype), Scratch()
        expected = encoding.encode(values, 0.001, scratch)
        try:
            found = encode_on(self._device, encoding, values, 0.001, Scratch(self._device))
        except RuntimeError as error:
            # What it says is of an operation that the device lacks, or of its memory.
            return self._distrust(encoding, str(error).partition("\n")[0])
        if torch.equal(found, expected):
            return True
        return self._distrust(encoding, "it rounds otherwise than the CPU")

    def _distrust(self, encoding: Encoding, why: str) -> bool:
        note = f"{encoding.type} was worked out on the CPU, not on {self._device} ({why}); the file is the same."
        if note not in self.notes:  # numbers of another type may have met it
            self.notes.append(note)
        return False

    def _scratch(self, device: torch.device) -> Scratch:
        scratches: dict[torch.device, Scratch] = self._own.__dict__.setdefault("scratches", {})
        if device not in scratches:
            scratches[device] = Scratch(device)
        return scratches[device]


def encode_on(
    device: torch.device, encoding: Encoding, values: Tensor, scale: float, scratch: Scratch
) -> Tensor:
    """Return the bytes of a chunk, worked out on a device, in memory of the CPU.

    Raises:
        RuntimeError: The device lacks an operation, or its memory is full.
    """
    return encoding.encode(values.to(device), scale, scratch).to(CPU)
