from __future__ import annotations

import os
import sys

import pytest
from luna_collection.luna_daemon.workers.weight_images import WeightImages, can_share_weights

if sys.platform != "linux":
    pytest.skip("only Linux has memfd", allow_module_level=True)

import fcntl


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_complete_image_is_given_again_and_a_half_written_one_is_not() -> None:
    images = WeightImages()
    first = images.fd_for("a")
    os.write(first, b"half")
    second = images.fd_for("a")
    assert os.fstat(second).st_size == 0, "a new one"
    fcntl.fcntl(second, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    inode = os.fstat(second).st_ino
    assert os.fstat(images.fd_for("a")).st_ino == inode
    images.drop("a")


def test_what_nobody_wants_is_given_up() -> None:
    images = WeightImages()
    kept, dropped = images.fd_for("a"), images.fd_for("b")
    images.keep(lambda key: key == "a")
    assert ("a" in images, is_open(kept)) == (True, True)
    assert ("b" in images, is_open(dropped)) == (False, False)
    images.keep(lambda _: False)
    assert not is_open(kept)


def test_dropping_what_is_not_there_changes_nothing() -> None:
    WeightImages().drop("a")


@pytest.mark.parametrize(("device", "shares"), [("cpu", True), ("cuda:0", False), ("mps", False)])
def test_weights_are_shared_where_they_are_used_from_ram(device: str, shares: bool) -> None:
    assert can_share_weights(device) is shares
