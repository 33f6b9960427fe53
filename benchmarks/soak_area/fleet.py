"""The client processes, as whoever started them sees them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from .tally import HANG, Trouble

LAUNCHER = Path(__file__).resolve().parents[1] / "launch.py"
SILENCE_S = 60.0  # a client that says nothing for so long, though it runs, hangs
END_S = 180.0


class Records:
    """What all clients have told, also those that are gone."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.troubles: list[Trouble] = []

    @property
    def requests(self) -> int:
        """All requests."""
        return sum(self.counts.values())


class SoakClient:
    """One client process."""

    def __init__(self, runtime_dir: Path, expected: Path, number: int, records: Records) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, str(LAUNCHER), "soak_area.client_process"),
                *(str(runtime_dir), str(expected), str(number)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.stopped_until = 0.0  # it was stopped on purpose and goes on then
        self.hanging = 0
        self._records = records
        self._heard_at = time.monotonic()
        self._ears = threading.Thread(target=self._listen, daemon=True)
        self._ears.start()

    @property
    def is_alive(self) -> bool:
        """Does the process run?"""
        return self._process.poll() is None

    @property
    def hangs(self) -> bool:
        """Does one of its calls, or all of it, not come to an end?"""
        silent_s = time.monotonic() - max(self._heard_at, self.stopped_until)
        return self.is_alive and (self.hanging > 0 or silent_s > SILENCE_S)

    def ask_to_end(self) -> None:
        """Let it finish what it does and end."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def end(self, seconds: float = 0.0) -> bool:
        """Wait for its end; kill it when that takes too long, and tell so."""
        try:
            self._process.wait(seconds)
            in_time = True
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            in_time = False
        self._ears.join()
        self.ask_to_end()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return in_time

    def _listen(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        for line in self._process.stdout:
            if not line.endswith("\n"):
                return  # it was killed in the middle of a word
            told = json.loads(line)
            self._heard_at = time.monotonic()
            self._records.counts.update(told["counts"])
            self._records.troubles += [Trouble(**one) for one in told["troubles"]]
            self.hanging = told["hanging"]


class Fleet:
    """So many clients at a time; who is gone is replaced."""

    def __init__(self, runtime_dir: Path, expected: Path, size: int, seed: int) -> None:
        self.records = Records()
        self.clients: list[SoakClient] = []
        self._size = size
        self._number = seed * 10_000
        self._place = (runtime_dir, expected)

    def fill(self) -> None:
        """Replace the clients that are gone, and those that hang, which is noted."""
        for client in list(self.clients):
            if client.hangs:
                self._note_hang("a call or a whole client did not come to an end")
            elif client.is_alive:
                continue
            self.clients.remove(client)
            client.end()
        while len(self.clients) < self._size:
            self._number += 1
            self.clients.append(SoakClient(*self._place, self._number, self.records))

    def end(self) -> None:
        """Let all clients finish and end."""
        for client in self.clients:
            client.ask_to_end()
        deadline = time.monotonic() + END_S
        for client in self.clients:
            if not client.end(max(0.0, deadline - time.monotonic())):
                self._note_hang("a client did not end")
        self.clients.clear()

    def _note_hang(self, text: str) -> None:
        now = time.monotonic()
        self.records.counts[f"client {HANG}"] += 1
        self.records.troubles.append(Trouble("client", HANG, now, now, text))
