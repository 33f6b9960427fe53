from __future__ import annotations

import os

import pytest
from luna_collection.utils.errors import InputError
from luna_collection.utils.whole_file import write_whole


def test_a_file_is_there_with_its_folders_and_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "a.json"
    for data in (b"one", b"two"):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["a.json"]


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "folder", b"x")
    assert os.listdir(tmp_path) == ["folder"]
