"""ggml's own quantiser, in the shared library that some Python packages bring.

It makes the types that we do not make ourselves. Nothing is compiled and nothing of those packages is
imported: the library is found beside their code and called through ctypes, which lets go of Python's
lock meanwhile. The bytes are those of llama.cpp's tools for the same release of ggml and no importance
matrix.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..log import get_logger
from .ggml_types import GGML_TYPES, row_bytes

# Package → where its library lies, from the package's folder: Linux, macOS, Windows.
PACKAGES = {
    "libggml": ("lib*/libggml-base.so", "lib*/libggml-base.dylib", "bin/ggml-base.dll"),
    "llama_cpp": ("lib/libggml-base.so", "lib/libggml-base.dylib", "lib/ggml-base.dll"),
    "pywhispercpp": (
        "../pywhispercpp.libs/libggml-base*",
        ".dylibs/libggml-base*",
        "../ggml-base*.dll",
    ),
    "xllamacpp": ("xllamacpp*.so", "xllamacpp*.pyd"),
}
# What the library makes without an importance matrix, and we do not. Our own quantiser makes the others
# in less time.
TYPES = ("Q2_K", "Q3_K", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS")

_LOG = get_logger("quantization")


class GgmlLibrary:
    """The quantiser of one shared library.

    Args:
        path: Of the library.

    Raises:
        OSError: It cannot be loaded.
        AttributeError: It is not ggml, or too old.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        library = ctypes.CDLL(str(path))
        self._quantize: Any = library.ggml_quantize_chunk
        self._quantize.restype = ctypes.c_size_t
        self._quantize.argtypes = [
            ctypes.c_int,  # type
            ctypes.c_void_p,  # fp32 numbers
            ctypes.c_void_p,  # bytes to write
            ctypes.c_int64,  # first number
            ctypes.c_int64,  # rows
            ctypes.c_int64,  # numbers in a row
            ctypes.c_void_p,  # importance of each number in a row, or null
        ]

    def quantize_rows(self, rows: Tensor, name: str) -> Tensor:
        """Return the bytes of rows: fp32 [n, k], contiguous, on the CPU → uint8 [n, bytes a row].

        The caller has checked that the numbers are finite: ggml may end the process when they are not.
        """
        out = torch.empty((rows.shape[0], row_bytes(name, rows.shape[1])), dtype=torch.uint8)
        number = GGML_TYPES[name].id
        self._quantize(number, rows.data_ptr(), out.data_ptr(), 0, *rows.shape, None)
        return out


@cache
def find() -> GgmlLibrary | None:
    """Return the first library that works, or None when no installed package has one."""
    for path in _candidates():
        try:
            return GgmlLibrary(path)
        except (OSError, AttributeError) as error:
            _LOG.debug("%s cannot be used: %s", path.name, error)
    return None


def absence(name: str) -> tuple[str, str]:
    """Return what to say, and what to do, where no installed package has the library."""
    return (
        f"Weights are converted to {name} by ggml, which no installed package brings.",
        "Install one that does, for example libggml-python, or choose another precision.",
    )


def _candidates() -> Iterator[Path]:
    for package, patterns in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for pattern in patterns:
                yield from sorted(path for path in Path(place).glob(pattern) if path.is_file())
