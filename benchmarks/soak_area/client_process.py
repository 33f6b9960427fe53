"""A client of the soak: threads that send whatever comes to their mind until standard input ends.

Told in JSON lines, twice a second: counts, troubles, and how many calls hang.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from ...luna_daemon.client import DaemonClient
from ...luna_daemon.config import DaemonConfig
from ...luna_daemon.config_sources import resolve
from ...luna_daemon.errors import ConnectionLostError, DaemonError
from ...luna_daemon.instance_lock import read_record
from .cases import FAMILIES, Case, all_cases
from .nonsense import BAD_REQUESTS, REFUSALS, talk_nonsense
from .tally import ACCEPTED, HANG, HANG_S, WRONG, Tally, Trouble

THREADS = 2
TELL_S = 0.5
CALL_S = 90.0  # the time that a request usually gets
HASTE_S = 0.33  # the most that a hasty one gets
PAUSE_S = 0.2  # after the daemon was not there
MIX: Mapping[str, int] = {
    "good": 50,
    "hasty": 20,
    "bad": 30,
    "cancelled": 5,
    "raw": 6,
    "register": 4,
    "release": 3,
    "ask": 4,
    "reconnected": 2,
}


class Interrupted(BaseException):
    """As ComfyUI's interrupt: not an Exception."""


class Chatter:
    """One thread's requests. Its process's threads share one client, and each has one of its own."""

    def __init__(
        self, shared: DaemonClient, number: int, expected: Mapping[str, torch.Tensor], tally: Tally
    ) -> None:
        self.shared = shared
        self.config: DaemonConfig = shared.config
        self.chance = random.Random(number)
        self.tally = tally
        self._own = DaemonClient(
            config=shared.config, interrupt=self._look, on_note=lambda note: None
        )
        self._interrupt_at = float("inf")
        self._expected = expected
        self._cases = all_cases()
        self._workflow = f"soak {number}"
        self._registered: set[tuple[DaemonClient, str]] = set()
        self._keys: dict[str, Mapping[str, str]] = {}
        self._actions: Mapping[str, Callable[[], None]] = {
            "good": self._good,
            "hasty": self._hasty,
            "bad": self._bad,
            "cancelled": self._cancelled,
            "raw": self._raw,
            "register": self._register,
            "release": self._release,
            "ask": self._ask,
            "reconnected": self._reconnect,
        }

    def run(self, stop: threading.Event) -> None:
        """Send requests until told to stop."""
        while not stop.is_set():
            self.send(MIX)

    def send(self, mix: Mapping[str, int]) -> None:
        """Send one request, of a kind that is so likely as its weight."""
        self._actions[self.chance.choices(list(mix), list(mix.values()))[0]]()

    def close(self) -> None:
        """End its own connection."""
        self._own.close()

    def _good(self) -> None:
        self._one("good", self.shared, self.chance.choice(self._cases))

    def _hasty(self) -> None:
        seconds = self.chance.random() * HASTE_S
        case = self.chance.choice(self._cases)
        self._one("hasty", self.shared, case, seconds, accepts=("DEADLINE",))

    def _cancelled(self) -> None:
        case = self.chance.choice(self._cases)
        if not self._is_registered(self._own, case.family):
            return
        self._interrupt_at = time.monotonic() + self.chance.random() * HASTE_S
        try:
            self._one("cancelled", self._own, case, accepts=(Interrupted.__name__,))
        finally:
            self._interrupt_at = float("inf")

    def _bad(self) -> None:
        ask = self.chance.choice(BAD_REQUESTS)
        if self._is_registered(self.shared, "SDXL"):
            workflow = f"{self._workflow} SDXL"
            self._attempt("bad", lambda: ask(self.shared, workflow), accepts=REFUSALS, refused=True)

    def _raw(self) -> None:
        record = read_record(self.config.folder / f"daemon-{self.config.port}.json")
        port = record.port if record else 0
        self._attempt("raw", lambda: talk_nonsense(self.config, port, self.chance))

    def _register(self) -> None:
        family = self.chance.choice(list(FAMILIES))
        self._registered.discard((self.shared, family))
        self._is_registered(self.shared, family)

    def _release(self) -> None:
        family = self.chance.choice(list(FAMILIES))
        if self._is_registered(self.shared, family):
            self._registered.discard((self.shared, family))
            self._attempt("release", lambda: self.shared.release(f"{self._workflow} {family}"))

    def _ask(self) -> None:
        self._attempt("ask", self.chance.choice([self.shared.ping, self.shared.status]))

    def _reconnect(self) -> None:
        config = self.config
        record = read_record(config.folder / f"daemon-{config.port}.json")
        if record is not None and self.chance.random() < 0.5:  # over TCP
            socket_path = config.folder / "none"
            config = dataclasses.replace(config, port=record.port, socket_path=socket_path)
        with DaemonClient(config=config, on_note=lambda note: None) as client:
            self._one("reconnected", client, self.chance.choice(self._cases))
            self._registered = {one for one in self._registered if one[0] is not client}

    def _look(self) -> None:
        if time.monotonic() > self._interrupt_at:
            raise Interrupted

    def _is_registered(self, client: DaemonClient, family: str) -> bool:
        if (client, family) in self._registered:
            return True

        def register() -> None:
            models = dict(FAMILIES[family])
            keys = client.get_model_proxies(f"{self._workflow} {family}", family, models).keys
            if self._keys.setdefault(family, keys) != keys:
                raise _WrongError("the keys of the models are others")
            self._registered.add((client, family))

        self._attempt("register", register)
        return (client, family) in self._registered

    def _one(
        self,
        kind: str,
        client: DaemonClient,
        case: Case,
        timeout_s: float | None = None,
        accepts: Sequence[str] = (),
    ) -> None:
        if not self._is_registered(client, case.family):
            return

        def call() -> None:
            tensors = case.call(client, f"{self._workflow} {case.family}", timeout_s)
            names = [f"{case.name}/{index}" for index in range(len(tensors))]
            pairs = zip(names, tensors, strict=True)
            if not all(torch.equal(self._expected[name], tensor) for name, tensor in pairs):
                raise _WrongError(case.name)

        self._attempt(kind, call, accepts=accepts)

    def _attempt(
        self,
        kind: str,
        call: Callable[[], object],
        accepts: Sequence[str] = (),
        refused: bool = False,
    ) -> None:
        """Make a call and note how it ended. `refused`: it must not succeed."""
        started = time.monotonic()
        code, text = "", ""
        with self.tally.watched(CALL_S):
            try:
                call()
            except DaemonError as error:
                code, text = error.code, str(error)
                if isinstance(error, ConnectionLostError):
                    time.sleep(PAUSE_S)
            except _WrongError as error:
                code, text = WRONG, str(error)
            except (Exception, Interrupted) as error:  # noqa: BLE001  # boundary: told and judged
                code, text = type(error).__name__, str(error)
        ended = time.monotonic()
        if refused and not code:
            code = ACCEPTED
        if ended - started > CALL_S + HANG_S:
            code, text = HANG, f"{code} {text}"
        if not code or code in accepts:
            self.tally.count(kind, code or "right")
        else:
            self.tally.tell(Trouble(kind, code, started, ended, text[:300]))


class _WrongError(Exception):
    """The answer is not the one that the engine gives."""


def main(arguments: Sequence[str]) -> int:
    """Send requests until standard input ends."""
    parser = argparse.ArgumentParser(prog="soak_client")
    parser.add_argument("runtime_dir", type=Path)
    parser.add_argument("expected", type=Path)
    parser.add_argument("seed", type=int)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    address = {
        "runtime_dir": options.runtime_dir,
        "port": 0,
        "request_timeout_s": CALL_S,
        "load_timeout_s": CALL_S,
    }
    tally, stop = Tally(), threading.Event()
    expected = load_file(options.expected)
    shared = DaemonClient(config=resolve(address).config, on_note=lambda note: None)
    chatters = [
        Chatter(shared, options.seed * THREADS + n, expected, tally) for n in range(THREADS)
    ]
    threads = [threading.Thread(target=one.run, args=(stop,), daemon=True) for one in chatters]
    watcher = threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True)
    for thread in (*threads, watcher):
        thread.start()
    while any(thread.is_alive() for thread in threads):
        stop.wait(TELL_S)
        if stop.is_set():
            time.sleep(0.05)
        _say(tally)
    for chatter in chatters:
        chatter.close()
    shared.close()
    _say(tally)
    return 0


def _say(tally: Tally) -> None:
    sys.stdout.write(json.dumps(tally.drain()) + "\n")
    sys.stdout.flush()
