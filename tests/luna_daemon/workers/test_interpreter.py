"""Whether another Python can run a worker: what it lacks is said with how to get it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from luna_collection.luna_daemon.errors import WorkerDiedError
from luna_collection.luna_daemon.workers.interpreter import check_python


def test_our_own_can() -> None:
    asyncio.run(check_python(Path(sys.executable)))


def test_one_that_does_not_start_is_said(tmp_path: Path) -> None:
    with pytest.raises(WorkerDiedError, match="does not start"):
        asyncio.run(check_python(tmp_path / "python"))


@pytest.mark.skipif(os.name == "nt", reason="scripts are no programs there")
@pytest.mark.parametrize("lacks", ["", "msgspec"])
def test_one_without_a_package_is_said(tmp_path: Path, lacks: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {lacks}\n")
    python.chmod(0o755)
    if not lacks:
        asyncio.run(check_python(python))
        return
    with pytest.raises(WorkerDiedError, match="lacks msgspec") as told:
        asyncio.run(check_python(python))
    assert "pip install msgspec" in told.value.hint
