from __future__ import annotations

import pytest
from luna_collection.luna_daemon.gpus import Gpu, visible_gpus

A, B, C = Gpu("GPU-aa11", 1), Gpu("GPU-ab22", 2), Gpu("GPU-cc33", 3)


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, [A, B, C]),
        ("", []),
        ("2,0", [C, A]),
        (" 1 , 2 ", [B, C]),
        ("0,-1,1", [A]),
        ("1,7,2", [B]),
        ("GPU-cc,GPU-aa11", [C, A]),
        ("GPU-a", []),  # could be either
        ("MIG-cc33", []),
    ],
)
def test_the_environment_says_which_gpus_there_are(visible, seen):
    assert visible_gpus([A, B, C], visible) == seen
