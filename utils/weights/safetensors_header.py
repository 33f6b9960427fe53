"""The header of a safetensors file: what lies in it, without reading a weight.

A file is eight bytes (header length, little-endian), the header (JSON), and the tensors' bytes one
after the other without gaps. Standard library only: the supervisor, which never imports torch, reads
headers with it.

Source: the format description in the safetensors repository (README, "Format").
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, TypeGuard

from ..errors import ModelFileError
from .stand_ins import check_is_no_stand_in

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference reader
_LENGTH_BYTES = 8

# Bits per element of every element type of the format.
ITEM_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}


class StoredTensor(NamedTuple):
    """One tensor of a file. `begin` and `end` are bytes from the start of the data."""

    dtype: str  # a key of ITEM_BITS
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """What a header says.

    Attributes:
        tensors: Name → tensor, in the order of the file's data.
        metadata: The free texts that the file carries.
        digest: SHA-256 of the header's JSON bytes, in hex.
        total_bytes: Bytes of all tensors together.
    """

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    digest: str
    total_bytes: int


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Read and check the header of a safetensors file.

    Raises:
        ModelFileError: The file is missing, cut short, damaged, or not a safetensors file.
    """
    name = path.name
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            raw = file.read(_LENGTH_BYTES)
            length = int.from_bytes(raw, "little")
            if len(raw) < _LENGTH_BYTES:
                _refuse(name, f"it has only {size} bytes" if size else "it is empty")
            if length > MAX_HEADER_BYTES or length > size - _LENGTH_BYTES:
                # No header is as long as the begin of a text, read as a number.
                check_is_no_stand_in(name, raw)
                _refuse(name, f"its header should have {length} bytes, but the file has {size}")
            header = file.read(length)
    except FileNotFoundError as error:
        raise ModelFileError(f"There is no file '{name}'.", "Check its name and folder.") from error
    except OSError as error:
        raise ModelFileError(
            f"'{name}' cannot be read: {error.strerror}.", "Check the file and its permissions."
        ) from error
    if len(header) < length:
        _refuse(name, "it ends inside its header")
    return _check(name, header, size - _LENGTH_BYTES - length)


def _check(name: str, header: bytes, data_bytes: int) -> SafetensorsHeader:
    entries = _parse(name, header)
    metadata = entries.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(name, "its metadata is not a table of texts")
    tensors = {key: _tensor(name, key, entry) for key, entry in entries.items()}
    ordered = dict(sorted(tensors.items(), key=lambda item: item[1][2:]))
    position = 0
    for key, tensor in ordered.items():
        if tensor.begin != position:
            _refuse(name, f"the bytes of '{key[:80]}' do not follow those of the tensor before it")
        position = tensor.end
    if position != data_bytes:
        _refuse(
            name, f"its tensors have {position} bytes, but {data_bytes} bytes follow the header"
        )
    digest = hashlib.sha256(header).hexdigest()
    return SafetensorsHeader(
        MappingProxyType(ordered), MappingProxyType(metadata), digest, position
    )


def _parse(name: str, header: bytes) -> dict[str, Any]:
    if not header.startswith(b"{"):
        _refuse(name, "its header is not a JSON object")
    try:
        entries: dict[str, Any] = json.loads(header, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, "its header is not valid JSON") from error
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _tensor(name: str, key: str, entry: Any) -> StoredTensor:
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, span = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not (isinstance(dtype, str) and _is_sizes(shape) and _is_sizes(span) and len(span) == 2):
        _refuse(name, f"its header does not say type, shape and place of '{key[:80]}'")
    if dtype not in ITEM_BITS:
        _refuse(name, f"'{key[:80]}' has the unknown element type '{dtype[:40]}'")
    begin, end = span
    if math.prod(shape) * ITEM_BITS[dtype] != 8 * (end - begin):
        _refuse(name, f"'{key[:80]}' has {end - begin} bytes, which do not fit {dtype} {shape}")
    return StoredTensor(dtype, tuple(shape), begin, end)


def _is_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _refuse(name: str, what: str) -> NoReturn:
    raise _damaged(name, what)


def _damaged(name: str, what: str) -> ModelFileError:
    return ModelFileError(
        f"'{name}' is damaged or not a safetensors file: {what}.", "Download it again."
    )
