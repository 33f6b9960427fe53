"""Clients that ask a daemon for texts as fast as they get them.

Told and telling in JSON lines: `{"calls": N}` lets every thread make N calls, `{"calls": null}` lets
them go on until the next line, whatever it is. Both are answered with the milliseconds of every call.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...luna_daemon.client import DaemonClient
from .private_daemon import config_for, register_sd15

Call = Callable[[], object]


def main(arguments: Sequence[str]) -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="load_clients")
    parser.add_argument("runtime_dir", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("workflow", help="What the names of the clients' workflows begin with.")
    parser.add_argument("--clients", type=int, default=1, help="Each has a connection of its own.")
    parser.add_argument("--threads", type=int, default=1, help="So many for each client.")
    parser.add_argument("--new-texts", action="store_true", help="Never the same text twice.")
    options = parser.parse_args(arguments)
    config = config_for(options.runtime_dir)
    clients = [DaemonClient(config=config) for _ in range(options.clients)]
    register_sd15(clients, options.workflow, options.encoder)
    texts = _new_texts(options.workflow) if options.new_texts else itertools.repeat("a known text")
    calls = [_call(c, f"{options.workflow}-{n}", texts) for n, c in enumerate(clients)]
    _serve(calls * options.threads)
    return 0


def _serve(calls: Sequence[Call]) -> None:
    _tell(ready=True)
    with ThreadPoolExecutor(len(calls)) as threads:
        while order := sys.stdin.readline():
            count = json.loads(order)["calls"]
            stop = threading.Event()
            running = [threads.submit(_repeat, call, count, stop) for call in calls]
            if count is None:
                sys.stdin.readline()
                stop.set()
            _tell(times_ms=[ms for future in running for ms in future.result()])


def _repeat(call: Call, count: int | None, stop: threading.Event) -> list[float]:
    times: list[float] = []
    while not stop.is_set() and (count is None or len(times) < count):
        started = time.perf_counter()
        call()
        times.append(round((time.perf_counter() - started) * 1000, 3))
    return times


def _call(client: DaemonClient, workflow: str, texts: Iterator[str]) -> Call:
    return lambda: client.clip_encode(next(texts), workflow_id=workflow)


def _new_texts(salt: str) -> Iterator[str]:
    # Many threads ask at once: a generator would refuse that, a map over a count does not.
    return map("{}, number {}".format, itertools.repeat(salt), itertools.count())


def _tell(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()
