"""The header of a GGUF file: its metadata and tensors, without reading a weight.

A file is a preamble (magic, version, number of tensors, number of metadata entries), the metadata, one
description per tensor, and the tensors' bytes, each aligned. All numbers are little-endian. Standard
library only: the supervisor, which never imports torch, reads headers with it.

Source: the GGUF specification in ggml's documentation (docs/gguf.md).
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, NoReturn

from ..errors import ModelFileError
from ..quantization.ggml_types import GGML_TYPES, NAMES_BY_ID
from .stand_ins import check_is_no_stand_in

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER_BYTES = 100_000_000
DEFAULT_ALIGNMENT = 32
ORIGINAL_SHAPE = (
    "comfy.gguf.orig_shape."  # + a tensor's name: the shape that it had before it was flattened
)
MAX_DIMENSIONS = 8

_CHUNK = 1 << 18
_MAX_NAME_BYTES = 65_535
_MAX_ELEMENTS = 1 << 62
_MAX_NESTING = 4
_LEAST_TENSOR_BYTES = 24  # name's length, number of dimensions, type, place
_LEAST_ENTRY_BYTES = 13  # key's length, type, value

# Value type → struct format of one value; strings and arrays are read by hand.
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9

Value = bool | int | float | str | tuple[Any, ...]  # in metadata


class GgufTensor(NamedTuple):
    """One tensor of a file. `begin` and `end` are bytes from the start of the data (`data_begin`)."""

    type: str  # a key of GGML_TYPES
    shape: tuple[int, ...]  # torch's order: rows last; the original one where the file names it
    begin: int
    end: int
    stored_shape: tuple[int, ...]  # torch's order, as the blocks lie


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a header says.

    Attributes:
        architecture: `general.architecture`, or "" where the file does not name one.
        metadata: Key → number, bool, text, or tuple of such.
        tensors: Name → tensor, in the order of the file's data.
        digest: SHA-256 of the header's bytes, in hex.
        total_bytes: Bytes of all tensors together, without the gaps between them.
        data_begin: Where the data starts, in bytes from the start of the file.
        alignment: Every tensor starts at a multiple of it.
    """

    architecture: str
    metadata: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]
    digest: str
    total_bytes: int
    data_begin: int
    alignment: int


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Raises:
        ModelFileError: The file is missing, cut short, damaged, or not a GGUF file of version 2 or 3.
    """
    try:
        with path.open("rb") as file:
            return _read(_Reader(path.name, file))
    except FileNotFoundError as error:
        raise ModelFileError(
            f"There is no file '{path.name}'.", "Check its name and folder."
        ) from error
    except OSError as error:
        raise ModelFileError(
            f"'{path.name}' cannot be read: {error.strerror}.",
            "Check the file and its permissions.",
        ) from error


class _Reader:
    """Reads a header front to back, in pieces, and never takes a count on trust."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self.size = os.fstat(file.fileno()).st_size
        self.position = 0
        self._file = file
        self._bytes = bytearray()

    def digest(self) -> str:
        """Return the SHA-256 of everything read so far."""
        return hashlib.sha256(memoryview(self._bytes)[: self.position]).hexdigest()

    def take(self, count: int) -> memoryview:
        """Return the next bytes. The caller lets go of the view before it reads on."""
        begin, end = self.position, self.position + count
        if end > len(self._bytes):
            self._fill(end)
        self.position = end
        return memoryview(self._bytes)[begin:end]

    def _fill(self, end: int) -> None:
        if end > self.size:
            self.refuse("it ends inside its header")
        if end > MAX_HEADER_BYTES:
            self.refuse(f"its header is longer than {MAX_HEADER_BYTES} bytes")
        while len(self._bytes) < end:
            more = self._file.read(max(_CHUNK, end - len(self._bytes)))
            if not more:
                self.refuse("it ends inside its header")
            self._bytes += more

    def numbers(self, pattern: str) -> tuple[Any, ...]:
        """Return values of a struct format without a byte order."""
        with self.take(struct.calcsize("<" + pattern)) as raw:
            return struct.unpack("<" + pattern, raw)

    def count(self, least_bytes: int, what: str) -> int:
        """Return a count of things that take so many bytes at least, which must fit into the file."""
        (count,) = self.numbers("Q")
        if count * least_bytes > self.size - self.position:
            self.refuse(f"it should have {count} {what}, for which it is too short")
        return int(count)

    def text(self, limit: int) -> str:
        """Return a string."""
        length = self.count(1, "bytes in a text")
        if length > limit:
            self.refuse(f"a name has {length} bytes")
        with self.take(length) as raw:
            return str(raw, "utf-8", "replace" if limit > _MAX_NAME_BYTES else "strict")

    def value(self, kind: int, nesting: int = 0) -> Value:
        """Return a metadata value of a type."""
        if kind in _SCALARS:
            value: Value = self.numbers(_SCALARS[kind])[0]
            return value
        if kind == _STRING:
            return self.text(MAX_HEADER_BYTES)
        if kind != _ARRAY or nesting == _MAX_NESTING:
            self.refuse(f"a metadata value has the unknown type {kind}")
        (inner,) = self.numbers("I")
        if inner in _SCALARS:
            count = self.count(struct.calcsize("<" + _SCALARS[inner]), "values in a list")
            return self.numbers(f"{count}{_SCALARS[inner]}")
        count = self.count(8, "values in a list")
        if inner == _STRING:
            return self._texts(count)
        return tuple(self.value(inner, nesting + 1) for _ in range(count))

    def _texts(self, count: int) -> tuple[str, ...]:
        """Return many strings. Vocabularies have hundreds of thousands, so this is one tight loop."""
        texts = []
        position, there = self.position, len(self._bytes)
        length_at = struct.Struct("<Q").unpack_from
        for _ in range(count):
            begin = position + 8
            if begin > there:
                self._fill(begin)
                there = len(self._bytes)
            position = begin + length_at(self._bytes, position)[0]
            if position > there:
                self._fill(position)
                there = len(self._bytes)
            texts.append(self._bytes[begin:position].decode("utf-8", "replace"))
        self.position = position
        return tuple(texts)

    def refuse(self, what: str) -> NoReturn:
        """Raise the error for a damaged file."""
        raise ModelFileError(
            f"'{self.name}' is damaged or not a GGUF file: {what}.", "Download it again."
        )


def _read(reader: _Reader) -> GgufHeader:
    _check_preamble(reader)
    tensor_count = reader.count(_LEAST_TENSOR_BYTES, "tensors")
    entry_count = reader.count(_LEAST_ENTRY_BYTES, "metadata entries")
    try:
        metadata = _metadata(reader, entry_count)
        placed = [_description(reader) for _ in range(tensor_count)]
    except UnicodeDecodeError:
        reader.refuse("a name is not valid text")
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        reader.refuse(f"its alignment is {str(alignment)[:40]}, not a power of two")
    data_begin = -(-reader.position // alignment) * alignment
    tensors = _placed(reader, placed, metadata, data_begin, alignment)
    architecture = metadata.get("general.architecture", "")
    return GgufHeader(
        architecture if isinstance(architecture, str) else "",
        MappingProxyType(metadata),
        MappingProxyType(tensors),
        reader.digest(),
        sum(tensor.end - tensor.begin for tensor in tensors.values()),
        data_begin,
        alignment,
    )


def _check_preamble(reader: _Reader) -> None:
    if reader.size < 24:
        reader.refuse(f"it has only {reader.size} bytes" if reader.size else "it is empty")
    with reader.take(8) as raw:
        begin = bytes(raw)
    if begin[:4] != MAGIC:
        check_is_no_stand_in(reader.name, begin)
        reader.refuse("it does not begin as one")
    version = int.from_bytes(begin[4:], "little")
    if version in VERSIONS:
        return
    if int.from_bytes(begin[4:], "big") in VERSIONS:
        raise ModelFileError(
            f"'{reader.name}' was made for machines with the other byte order.",
            "Get the usual file, with little-endian numbers.",
        )
    raise ModelFileError(
        f"'{reader.name}' is a GGUF file of version {version}; versions 2 and 3 can be read.",
        "Get a newer file, or a newer version of Luna Collection if the file's version is higher.",
    )


def _metadata(reader: _Reader, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = reader.text(_MAX_NAME_BYTES)
        if key in metadata:
            reader.refuse(f"'{key[:80]}' occurs twice in its metadata")
        (kind,) = reader.numbers("I")
        metadata[key] = reader.value(kind)
    return metadata


class _Description(NamedTuple):
    """What the header says of one tensor."""

    name: str
    type: str
    shape: tuple[int, ...]  # as stored, in torch's order
    begin: int


def _description(reader: _Reader) -> _Description:
    name = reader.text(_MAX_NAME_BYTES)
    (dimensions,) = reader.numbers("I")
    if dimensions > MAX_DIMENSIONS:
        reader.refuse(f"'{name[:80]}' has {dimensions} dimensions")
    *sizes, number, begin = reader.numbers(f"{dimensions}QIQ")
    if number not in NAMES_BY_ID:
        reader.refuse(f"'{name[:80]}' has the unknown element type {number}")
    return _Description(name, NAMES_BY_ID[number], tuple(reversed(sizes)), begin)


def _placed(
    reader: _Reader,
    descriptions: list[_Description],
    metadata: Mapping[str, Value],
    data_begin: int,
    alignment: int,
) -> dict[str, GgufTensor]:
    tensors: dict[str, GgufTensor] = {}
    data_bytes = max(0, reader.size - data_begin)
    sized = [(one, one.begin + _tensor_bytes(reader, one)) for one in descriptions]
    position = 0
    for one, end in sorted(sized, key=lambda item: (item[0].begin, item[1])):
        label = one.name[:80]
        if one.name in tensors:
            reader.refuse(f"it has two tensors named '{label}'")
        if one.begin % alignment:
            reader.refuse(f"'{label}' does not lie at a multiple of {alignment}")
        if one.begin < position:
            reader.refuse(f"'{label}' overlaps the tensor before it")
        if end > data_bytes:
            reader.refuse(f"'{label}' ends {end - data_bytes} bytes behind the file's end")
        shape = _original_shape(reader, one, metadata)
        tensors[one.name] = GgufTensor(one.type, shape, one.begin, end, one.shape)
        position = end
    return tensors


def _tensor_bytes(reader: _Reader, one: _Description) -> int:
    _, block, block_bytes = GGML_TYPES[one.type]
    elements = math.prod(one.shape)
    if elements > _MAX_ELEMENTS:
        reader.refuse(f"'{one.name[:80]}' should have {elements} elements")
    if (one.shape[-1] if one.shape else 1) % block:
        reader.refuse(
            f"rows of '{one.name[:80]}' are not whole blocks of {one.type}: {list(one.shape)}"
        )
    return elements // block * block_bytes


def _original_shape(
    reader: _Reader, one: _Description, metadata: Mapping[str, Value]
) -> tuple[int, ...]:
    original = metadata.get(ORIGINAL_SHAPE + one.name, one.shape)
    if not isinstance(original, tuple) or not all(type(v) is int and v >= 0 for v in original):
        reader.refuse(f"the original shape of '{one.name[:80]}' is not a list of sizes")
    if math.prod(original) != math.prod(one.shape):
        reader.refuse(f"the original shape of '{one.name[:80]}' does not fit its elements")
    return original
