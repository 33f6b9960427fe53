"""Bytes of a text file → text. UTF-8 first, and every other reading is said."""

from __future__ import annotations

import codecs

from .errors import WildcardError

MAX_BYTES = 256 * 2**20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 4096  # bytes that show whether every other one is zero


def decode(data: bytes) -> tuple[str, str]:
    """Return the text, and a sentence when it is not UTF-8.

    Raises:
        WildcardError: It is no text.
    """
    if len(data) > MAX_BYTES:
        raise WildcardError(
            f"it has {len(data) // 2**20} MB; at most {MAX_BYTES // 2**20} MB are read. Split it"
        )
    text, note = _decoded(data)
    if "\0" in text:
        raise WildcardError("it holds null bytes, so it is no text file. Save it as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n"), note


def _decoded(data: bytes) -> tuple[str, str]:
    encoding = _encoding_of(data)
    try:
        return data.decode(encoding), ""
    except UnicodeDecodeError as error:
        if encoding not in ("utf-8", "utf-8-sig"):
            raise WildcardError(
                f"it begins as {encoding} and is damaged: {error.reason}"
            ) from error
        line = data.count(b"\n", 0, error.start) + 1
        note = (
            f"line {line}: this is not UTF-8, so the file was read as Windows-1252; "
            "letters may be wrong. Save it as UTF-8"
        )
    try:
        return data.decode("cp1252"), note
    except UnicodeDecodeError:
        return data.decode("latin-1"), note.replace("Windows-1252", "Latin-1")


def _encoding_of(data: bytes) -> str:
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return encoding
    sample = data[:_SAMPLE]
    if (
        len(sample) >= 4 and b"\0" in sample
    ):  # UTF-16 without its mark has a zero beside each letter
        half = len(sample) // 2
        if sample[1::2].count(0) > 0.6 * half and not sample[::2].count(0):
            return "utf-16-le"
        if sample[::2].count(0) > 0.6 * half and not sample[1::2].count(0):
            return "utf-16-be"
    return "utf-8"
