from __future__ import annotations

import os
from pathlib import Path

import pytest
from luna_collection.utils.errors import ModelFileError
from luna_collection.utils.loras.file_cache import FileCache


def text_of(path: Path) -> tuple[str, int]:
    text = path.read_text()
    return text, len(text)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("first")
    return path


def test_a_file_is_read_once(file):
    cache = FileCache(100, text_of)
    first = cache.get(file)
    assert first[1] == "first"
    assert cache.get(file) == first
    assert (cache.reads, cache.nbytes) == (1, 5)


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_was_replaced_is_read_again(file, change):
    cache = FileCache(100, text_of)
    before = cache.get(file)
    state = file.stat()
    file.write_text("second" if change == "size" else "other")
    later = state.st_mtime_ns + (10**9 if change == "time" else 0)
    os.utime(file, ns=(state.st_atime_ns, later))
    after = cache.get(file)
    assert after[1] == file.read_text()
    assert after[0] != before[0]
    assert (cache.reads, cache.nbytes) == (2, len(after[1]))


def test_what_is_used_least_goes_first(tmp_path):
    cache = FileCache(10, text_of)
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text("1234")
    cache.get(paths[0])
    cache.get(paths[1])
    cache.get(paths[0])
    cache.get(paths[2])
    assert (cache.reads, cache.nbytes) == (3, 8)
    cache.get(paths[0])
    assert cache.reads == 3
    cache.get(paths[1])
    assert cache.reads == 4


def test_what_does_not_fit_is_given_and_not_kept(file):
    cache = FileCache(4, text_of)
    assert [cache.get(file)[1] for _ in range(2)] == ["first", "first"]
    assert (cache.reads, cache.nbytes) == (2, 0)


def test_a_file_that_is_gone_is_said(file):
    cache = FileCache(100, text_of)
    cache.get(file)
    file.unlink()
    with pytest.raises(ModelFileError, match=r"a\.safetensors' cannot be read"):
        cache.get(file)


def test_a_file_that_cannot_be_read_leaves_nothing(file):
    def refuse(path: Path) -> tuple[str, int]:
        raise ModelFileError(f"{path} is damaged.")

    cache = FileCache(100, refuse)
    for _ in range(2):
        with pytest.raises(ModelFileError, match="damaged"):
            cache.get(file)
    assert (cache.reads, cache.nbytes) == (0, 0)
