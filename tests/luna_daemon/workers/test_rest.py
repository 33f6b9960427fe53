"""A worker that has had nothing to do for a while gives memory back, once."""

from __future__ import annotations

import queue
from typing import Any, cast

import pytest
from luna_collection.luna_daemon.workers.loop import REST_AFTER_S, WorkerLoop


class Script:
    """A queue whose jobs come as they are told to; None: nobody came in time."""

    def __init__(self, *jobs: Any) -> None:
        self._jobs = list(jobs)
        self.patience: list[float | None] = []

    def get(self, timeout: float | None) -> Any:
        self.patience.append(timeout)
        if not self._jobs:
            raise SystemExit
        job = self._jobs.pop(0)
        if job is None:
            raise queue.Empty
        return job


class Engine:
    """Tells what was asked of it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def rest(self) -> None:
        self.done.append("rest")
        if len(self.done) > 4:
            raise MemoryError


def test_it_rests_once_after_work_and_then_waits_for_ever():
    engine = Engine()

    def work() -> None:
        engine.done.append("work")

    loop = WorkerLoop(cast(Any, None), cast(Any, engine))
    script = Script(work, work, None, work, None, work)
    loop._jobs = cast(Any, script)
    with pytest.raises(SystemExit):
        loop._execute()
    assert engine.done == ["work", "work", "rest", "work", "rest", "work"], "also after a failure"
    some, ever = REST_AFTER_S, None
    assert script.patience == [ever, some, some, ever, some, ever, some]
