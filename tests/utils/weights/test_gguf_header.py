from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.utils.errors import ModelFileError
from luna_collection.utils.weights.gguf_header import GgufTensor, read_gguf_header

Tensor = tuple[str, tuple[int, ...], int, int]  # name, sizes as in the file, type, begin


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def header(
    tensors: list[Tensor], entries: list[bytes] | None = None, version: int = 3, align: int = 32
) -> bytes:
    entries = entries or []
    raw = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join(entries)
    for name, sizes, kind, begin in tensors:
        raw += text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, begin)
    return raw + bytes(-len(raw) % align)


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


def library_file(
    path: Path, change: Callable[[gguf.GGUFWriter], None] = lambda writer: None
) -> Path:
    writer = gguf.GGUFWriter(path, "flux")
    writer.add_uint32("flux.count", 7)
    writer.add_bool("a.flag", True)
    writer.add_float64("a.number", 0.5)
    writer.add_array("a.list", [1, 2, 3])
    writer.add_array("a.texts", ["one", "zwei", "три"])
    writer.add_array("comfy.gguf.orig_shape.conv.weight", [4, 4, 4, 4])
    change(writer)
    writer.add_tensor("conv.weight", np.ones((1, 256), dtype=np.float16))
    writer.add_tensor("bias", np.ones(3, dtype=np.float32))
    blocks = gguf.quants.quantize(
        np.ones((2, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("linear.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_header_says_what_the_library_wrote(tmp_path: Path) -> None:
    path = library_file(tmp_path / "модель.gguf")
    read = read_gguf_header(path)

    assert (read.architecture, read.alignment, read.total_bytes) == ("flux", 32, 512 + 12 + 4 * 34)
    assert read.tensors["conv.weight"] == GgufTensor("F16", (4, 4, 4, 4), 0, 512, (1, 256))
    assert read.tensors["bias"] == GgufTensor("F32", (3,), 512, 524, (3,))
    assert read.tensors["linear.weight"] == GgufTensor("Q8_0", (2, 64), 544, 544 + 136, (2, 64))
    values = [read.metadata[f"a.{key}"] for key in ("flag", "number", "list", "texts")]
    assert values == [True, 0.5, (1, 2, 3), ("one", "zwei", "три")]
    theirs = {tensor.name: tensor.data_offset for tensor in gguf.GGUFReader(path).tensors}
    assert theirs == {name: read.data_begin + t.begin for name, t in read.tensors.items()}


def test_alignment_of_the_file_counts(tmp_path: Path) -> None:
    path = library_file(tmp_path / "m.gguf", lambda writer: writer.add_custom_alignment(256))
    read = read_gguf_header(path)
    assert (read.alignment, read.data_begin % 256) == (256, 0)
    assert [tensor.begin for tensor in read.tensors.values()] == [0, 512, 768]


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_and_a_file_without_a_name(tmp_path: Path, version: int) -> None:
    raw = header([("w", (2, 3), 0, 0)], version=version)
    read = read_gguf_header(write(tmp_path / "m.gguf", raw + bytes(24)))
    assert read.architecture == ""
    assert dict(read.tensors) == {"w": GgufTensor("F32", (3, 2), 0, 24, (3, 2))}
    assert read.data_begin == len(raw)


def test_the_digest_is_that_of_the_header_without_padding(tmp_path: Path) -> None:
    raw = header([("w", (2,), 0, 0)])
    read = read_gguf_header(write(tmp_path / "m.gguf", raw + bytes(8)))
    length = 24 + (8 + 1) + 4 + 8 + 4 + 8  # preamble; name, dimensions, size, type, place
    assert read.digest == hashlib.sha256(raw[:length]).hexdigest()
    again = read_gguf_header(write(tmp_path / "m.gguf", raw + b"weights!"))
    assert again.digest == read.digest


def test_no_tensors_no_dimensions_and_no_elements(tmp_path: Path) -> None:
    assert dict(read_gguf_header(write(tmp_path / "m.gguf", header([]))).tensors) == {}
    raw = header([("scalar", (), 0, 0), ("none", (0, 3), 0, 0), ("also", (0,), 0, 0)])
    read = read_gguf_header(write(tmp_path / "m.gguf", raw + bytes(4)))
    assert {name: tensor.shape for name, tensor in read.tensors.items()} == {
        "none": (3, 0),
        "also": (0,),
        "scalar": (),
    }


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = library_file(tmp_path / "model.gguf")
    whole = path.read_bytes()
    used = read_gguf_header(path)
    last = max(used.data_begin + tensor.end for tensor in used.tensors.values())
    for length in range(last):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=r"'model\.gguf' is damaged.*Download it again"):
            read_gguf_header(path)


BIG = 2**63
ONE = ("w", (2,), 0, 0)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"", "it is empty"),
        (b"GG", "it has only 2 bytes"),
        (b"PK\x03\x04" + bytes(40), "does not begin as one"),
        (b"version https://git-lfs.github.com/spec/v1", "only the pointer that Git LFS"),
        (b"<!DOCTYPE html><html><body></body>", "is a web page"),
        (header([ONE], version=1) + bytes(8), "version 1; versions 2 and 3 can be read"),
        (header([ONE], version=4) + bytes(8), "version 4; versions 2 and 3"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "the other byte order"),
        (b"GGUF" + struct.pack("<IQQ", 3, BIG, 0), f"{BIG} tensors, for which it is too short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "metadata entries, for which it is too short"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, BIG) + bytes(32), "bytes in a text, for which"),
        (header([], [entry("a", 99, b"")]), "the unknown type 99"),
        (header([], [entry("a", 9, struct.pack("<IQ", 4, 2**50))]), "values in a list, for which"),
        (header([], [entry("a", 9, struct.pack("<IQ", 8, 2**50))]), "values in a list, for which"),
        (header([], [entry("a", 9, struct.pack("<IQ", 9, 1) * 9)]), "unknown type 9"),
        (header([], [entry("a", 0, b"1"), entry("a", 0, b"2")]), "'a' occurs twice"),
        (
            header([], [entry("general.alignment", 4, struct.pack("<I", 24))]),
            "alignment is 24, not a",
        ),
        (
            header([], [entry("general.alignment", 4, struct.pack("<I", 0))]),
            "alignment is 0, not a",
        ),
        (header([ONE, ("v", (2,), 0, 0)]) + bytes(8), "'v' overlaps"),
        (header([ONE, ("w", (2,), 0, 32)]) + bytes(64), "two tensors named 'w'"),
        (header([("w", (16,), 0, 0), ("v", (2,), 0, 32)]) + bytes(64), "'v' overlaps"),
        (header([("w", (2,), 0, 4)]) + bytes(64), "'w' does not lie at a multiple of 32"),
        (header([("w", (2,), 0, 32)]) + bytes(36), "'w' ends 4 bytes behind the file's end"),
        (header([("w", (2,), 77, 0)]) + bytes(64), "'w' has the unknown element type 77"),
        (header([("w", (2**40, 2**40), 0, 0)]) + bytes(64), f"should have {2**80} elements"),
        (header([("w", (BIG, 2), 0, 0)]) + bytes(64), f"should have {2**64} elements"),
        (header([("w", (2, 32), 8, 0)]) + bytes(99), "not whole blocks of Q8_0"),
        (header([("w", (1,) * 9, 0, 0)]) + bytes(64), "'w' has 9 dimensions"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, raw: bytes, what: str) -> None:
    with pytest.raises(ModelFileError, match=what):
        read_gguf_header(write(tmp_path / "m.gguf", raw))


@pytest.mark.parametrize("original", [[3], [2, 2], [-1, -2], ["2"]])
def test_an_original_shape_has_to_fit(tmp_path: Path, original: list[int | str]) -> None:
    kind = 8 if isinstance(original[0], str) else 5
    values = b"".join(text(v) if isinstance(v, str) else struct.pack("<i", v) for v in original)
    shape = entry("comfy.gguf.orig_shape.w", 9, struct.pack("<IQ", kind, len(original)) + values)
    with pytest.raises(ModelFileError, match="original shape of 'w'"):
        read_gguf_header(write(tmp_path / "m.gguf", header([ONE], [shape]) + bytes(8)))


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    raw = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"\xff\xfe") + struct.pack("<IB", 0, 1)
    with pytest.raises(ModelFileError, match="a name is not valid text"):
        read_gguf_header(write(tmp_path / "m.gguf", raw))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"There is no file 'none\.gguf'"):
        read_gguf_header(tmp_path / "none.gguf")
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_gguf_header(tmp_path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_harmless(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = library_file(tmp_path_factory.mktemp("damage") / "m.gguf")
    raw = bytearray(path.read_bytes())
    begin = read_gguf_header(path).data_begin
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, begin - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        read = read_gguf_header(path)
    except ModelFileError:
        return
    assert all(read.data_begin + tensor.end <= len(raw) for tensor in read.tensors.values())


def test_a_vocabulary_longer_than_a_piece_of_the_file(tmp_path: Path) -> None:
    words = [f"слово {number}" * (number % 7) for number in range(20_000)]
    path = library_file(tmp_path / "m.gguf", lambda writer: writer.add_array("a.words", words))
    read = read_gguf_header(path)
    assert read.metadata["a.words"] == tuple(words)
    assert len(read.tensors) == 3


def test_a_vocabulary_that_ends_too_early(tmp_path: Path) -> None:
    words = entry("a", 9, struct.pack("<IQ", 8, 2) + text("one") + struct.pack("<Q", BIG))
    with pytest.raises(ModelFileError, match="it ends inside its header"):
        read_gguf_header(write(tmp_path / "m.gguf", header([], [words])))
