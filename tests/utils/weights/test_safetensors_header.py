from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from luna_collection.utils.errors import ModelFileError
from luna_collection.utils.weights.safetensors_header import (
    ITEM_BITS,
    StoredTensor,
    read_safetensors_header,
)
from safetensors.torch import save_file


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def entry(dtype: object = "F32", shape: object = (2,), span: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": span}


def test_header_says_what_the_library_wrote(tmp_path: Path) -> None:
    tensors = {
        "b": torch.zeros(2, 3, dtype=torch.float16),
        "a": torch.zeros(5, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
        "scalar": torch.zeros((), dtype=torch.bfloat16),
    }
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})

    header = read_safetensors_header(path)

    assert {k: (t.dtype, t.shape, t.end - t.begin) for k, t in header.tensors.items()} == {
        "a": ("I64", (5,), 40),
        "b": ("F16", (2, 3), 12),
        "empty": ("F32", (0, 4), 0),
        "scalar": ("BF16", (), 2),
    }
    assert header.metadata == {"format": "pt"}
    assert header.total_bytes == 54
    raw = path.read_bytes()
    assert header.digest == hashlib.sha256(raw[8:-54]).hexdigest()


def test_a_file_without_tensors_is_valid(tmp_path: Path) -> None:
    header = read_safetensors_header(write(tmp_path / "empty.safetensors", {}))
    assert (dict(header.tensors), header.total_bytes) == ({}, 0)


def test_tensors_come_in_the_order_of_their_data(tmp_path: Path) -> None:
    table = {"late": entry(span=(8, 16)), "early": entry(span=(0, 8))}
    header = read_safetensors_header(write(tmp_path / "m.safetensors", table, bytes(16)))
    assert list(header.tensors) == ["early", "late"]
    assert header.tensors["late"] == StoredTensor("F32", (2,), 8, 16)


def test_elements_smaller_than_a_byte_are_counted_in_bits(tmp_path: Path) -> None:
    table = {"w": entry("F4", (3, 2), (0, 3))}
    assert read_safetensors_header(write(tmp_path / "m", table, bytes(3))).total_bytes == 3


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3), "b": torch.zeros(2, 2, dtype=torch.float16)}, path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=r"'model\.safetensors'.*Download it again"):
            read_safetensors_header(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(ModelFileError):
        read_safetensors_header(path)


DAMAGED = {
    "header is a list": (b"[]", b"", "not a JSON object"),
    "header is text": (b"<html>", b"", "not a JSON object"),
    "header is cut": (b'{"a":', b"", "not valid JSON"),
    "header is not UTF-8": (b'{"\xff": 1}', b"", "not valid JSON"),
    "header is too deep": (b'{"a":' + b"[" * 100_000, b"", "not valid JSON"),
    "a number is too long": (b'{"a":' + b"1" * 10_000 + b"}", b"", "not valid JSON"),
    "a name occurs twice": (b'{"a": 1, "a": 2}', b"", "not valid JSON"),
    "an entry is a number": ({"a": 3}, b"", "does not say"),
    "an entry lacks its shape": ({"a": {"dtype": "F32"}}, b"", "does not say"),
    "a size is negative": ({"a": entry(shape=(-2,))}, bytes(8), "does not say"),
    "a size is a fraction": ({"a": entry(shape=(2.0,))}, bytes(8), "does not say"),
    "a size is true": ({"a": entry(shape=(True, 2))}, bytes(8), "does not say"),
    "three offsets": ({"a": entry(span=(0, 4, 8))}, bytes(8), "does not say"),
    "unknown type": ({"a": entry("F31")}, bytes(8), "unknown element type 'F31'"),
    "type is a list": ({"a": entry(["F32"])}, bytes(8), "does not say"),
    "size and shape differ": ({"a": entry(shape=(3,))}, bytes(8), "do not fit F32"),
    "end before begin": ({"a": entry(span=(8, 0))}, bytes(8), "do not fit"),
    "a gap": ({"a": entry(span=(4, 12))}, bytes(12), "do not follow"),
    "an overlap": ({"a": entry(), "b": entry(span=(4, 12))}, bytes(12), "do not follow"),
    "bytes left over": ({"a": entry()}, bytes(9), "9 bytes follow the header"),
    "outside the file": ({"a": entry(span=(0, 8))}, bytes(4), "4 bytes follow the header"),
    "metadata is a list": ({"__metadata__": ["x"]}, b"", "metadata"),
    "metadata holds numbers": ({"__metadata__": {"x": 1}}, b"", "metadata"),
}


@pytest.mark.parametrize(("header", "data", "why"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_named(tmp_path: Path, header: object, data: bytes, why: str) -> None:
    path = write(tmp_path / "model.safetensors", header, data)
    with pytest.raises(ModelFileError, match=why) as caught:
        read_safetensors_header(path)
    assert "'model.safetensors'" in caught.value.message
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "pointer that Git LFS"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"\n <?xml version='1.0'?><Error>", "is a web page"),
    ],
)
def test_what_often_lies_in_a_models_place_is_named(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=words):
        read_safetensors_header(path)


def test_a_header_whose_length_begins_like_a_web_page_is_read(tmp_path: Path) -> None:
    raw = b"{}".ljust(ord("<"))
    assert read_safetensors_header(write(tmp_path / "m.safetensors", raw)).total_bytes == 0


@pytest.mark.parametrize("length", [3, 2**40, 2**64 - 1, 100_000_001])
def test_an_absurd_header_length_is_refused_before_reading(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "m", b"{}", length=length)
    with pytest.raises(ModelFileError, match=f"should have {length} bytes"):
        read_safetensors_header(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="There is no file 'gone'"):
        read_safetensors_header(tmp_path / "gone")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_safetensors_header(tmp_path)


def test_every_element_type_that_torch_can_save_is_known(tmp_path: Path) -> None:
    kinds = [torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint8, torch.bool]
    kinds += [torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64]
    path = tmp_path / "m"
    save_file({str(kind): torch.zeros(2, dtype=kind) for kind in kinds}, path)
    found = read_safetensors_header(path).tensors.values()
    assert len(found) == len(kinds)
    assert {tensor.dtype for tensor in found} <= set(ITEM_BITS)
