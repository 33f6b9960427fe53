"""The element types of GGUF files: numbers, and how many elements lie in how many bytes.

A tensor of a quantised type is rows of blocks: so many elements in so many bytes, with the scales among
them. Standard library only.

Source: enum ggml_type and the block structs of ggml (ggml.h, ggml-common.h).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

from ..errors import InputError


class GgmlType(NamedTuple):
    """One element type."""

    id: int  # as it stands in a file
    block: int  # elements in a block
    block_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Bits that an element takes, its share of the scales included."""
        return 8 * self.block_bytes / self.block


GGML_TYPES = MappingProxyType(
    {
        "F32": GgmlType(0, 1, 4),
        "F16": GgmlType(1, 1, 2),
        "Q4_0": GgmlType(2, 32, 18),
        "Q4_1": GgmlType(3, 32, 20),
        "Q5_0": GgmlType(6, 32, 22),
        "Q5_1": GgmlType(7, 32, 24),
        "Q8_0": GgmlType(8, 32, 34),
        "Q8_1": GgmlType(9, 32, 40),
        "Q2_K": GgmlType(10, 256, 84),
        "Q3_K": GgmlType(11, 256, 110),
        "Q4_K": GgmlType(12, 256, 144),
        "Q5_K": GgmlType(13, 256, 176),
        "Q6_K": GgmlType(14, 256, 210),
        "Q8_K": GgmlType(15, 256, 292),
        "IQ2_XXS": GgmlType(16, 256, 66),
        "IQ2_XS": GgmlType(17, 256, 74),
        "IQ3_XXS": GgmlType(18, 256, 98),
        "IQ1_S": GgmlType(19, 256, 50),
        "IQ4_NL": GgmlType(20, 32, 18),
        "IQ3_S": GgmlType(21, 256, 110),
        "IQ2_S": GgmlType(22, 256, 82),
        "IQ4_XS": GgmlType(23, 256, 136),
        "I8": GgmlType(24, 1, 1),
        "I16": GgmlType(25, 1, 2),
        "I32": GgmlType(26, 1, 4),
        "I64": GgmlType(27, 1, 8),
        "F64": GgmlType(28, 1, 8),
        "IQ1_M": GgmlType(29, 256, 56),
        "BF16": GgmlType(30, 1, 2),
        "TQ1_0": GgmlType(34, 256, 54),
        "TQ2_0": GgmlType(35, 256, 66),
        "MXFP4": GgmlType(39, 32, 17),
        "NVFP4": GgmlType(40, 64, 36),
        "Q1_0": GgmlType(41, 128, 18),
    }
)

NAMES_BY_ID = MappingProxyType({entry.id: name for name, entry in GGML_TYPES.items()})


def ggml_type(name: str) -> GgmlType:
    """Return a type by its name.

    Raises:
        InputError: There is no such type.
    """
    if name not in GGML_TYPES:
        raise InputError(
            f"There is no GGUF element type '{name[:40]}'.",
            f"It is one of {', '.join(GGML_TYPES)}.",
        )
    return GGML_TYPES[name]


def fits(name: str, k: int) -> bool:
    """Tell whether rows of `k` elements are whole blocks of a type."""
    return k % ggml_type(name).block == 0


def row_bytes(name: str, k: int) -> int:
    """Return the bytes of a row of `k` elements.

    Raises:
        InputError: The row is not a whole number of blocks.
    """
    entry = ggml_type(name)
    if k % entry.block:
        raise InputError(
            f"A row of {k} elements is not a whole number of {name}'s blocks of {entry.block}.",
            "Choose a type that fits: F16 and BF16 always do.",
        )
    return k // entry.block * entry.block_bytes
