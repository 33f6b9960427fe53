"""`python benchmarks/soak.py`: minutes of good and bad requests while processes are killed.

Exit code 0 only if no result was wrong, no request was lost or hung, and the daemon holds at the end what
it held at the start. What a request may end with while a worker is killed twice, or the daemon is away,
says verdict.py.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..command import set_environment
from .answers import make_models, write_expected
from .fleet import Fleet
from .killer import Killer
from .measure import Holdings, holdings, settled, shared_memory_of
from .soak_daemon import SoakDaemon
from .verdict import Verdict, judge

CLIENTS = 4
WARM_UP_S, LONGEST_WARM_UP_S, WARM_UP_REQUESTS = 20.0, 120.0, 1000
STEP_S = 0.2
CALM_PART = (
    0.4  # of the time at the end in which the daemon itself is not killed: its memory is compared
)
SHOWN_SUSPECTS = 20


def main(arguments: Sequence[str]) -> int:
    """Run the soak."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/soak.py",
        description="Let clients ask a daemon for right and wrong things while processes are killed.",
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict to this file")
    options = parser.parse_args(arguments)
    seed = random.randrange(1000) if options.seed is None else options.seed
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"soak of {options.minutes:g} minutes, seed {seed}")
    with tempfile.TemporaryDirectory(prefix="luna-soak-", ignore_cleanup_errors=True) as folder:
        set_environment(Path(folder))
        soak = Soak(Path(folder), seed, console)
        try:
            verdict = soak.run(options.minutes * 60)
        finally:
            soak.daemon.end()
        if not verdict.passed:
            console.print(f"the daemon's log ends with:\n{soak.log_end()}", markup=False)
    show(verdict, console)
    if options.json is not None:
        options.json.write_text(json.dumps(verdict.record(), indent=2) + "\n", "utf-8")
    return 0 if verdict.passed else 1


class Soak:
    """One soak, from the first model to the verdict."""

    def __init__(self, folder: Path, seed: int, console: Console) -> None:
        models = folder / "models"
        self.daemon = SoakDaemon(folder, models)
        self._expected = folder / "expected.safetensors"
        self._models = models
        self._seed = seed
        self._console = console

    def run(self, seconds: float) -> Verdict:
        """Run it for so many seconds, after warming up."""
        make_models(self._models)
        write_expected(self._models, self._expected)
        self.daemon.start()
        fleet = self._fleet(self._seed + 1)
        self._warm_up(fleet)
        fleet.end()
        warm_up = fleet.records
        before = self._rest()
        self._console.print(f"warmed up with {warm_up.requests} requests; {_shown(before)}")
        fleet = self._fleet(self._seed)
        killer = Killer(self.daemon, fleet, self._seed)
        self._chase(fleet, killer, seconds)
        fleet.end()
        after = self._rest()
        self._console.print(f"at the end: {_shown(after)}")
        left_over = [*killer.deeds.orphans, *self._stop()]
        fleet.records.counts.update(warm_up.counts)
        troubles = warm_up.troubles + fleet.records.troubles
        held = (before, after)
        return judge(fleet.records.counts, troubles, killer.deeds.incidents, held, left_over)

    def log_end(self) -> str:
        """Return the last lines of the daemon's log."""
        return "\n".join(self.daemon.log.read_text("utf-8", "replace").splitlines()[-40:])

    def _fleet(self, seed: int) -> Fleet:
        return Fleet(self.daemon.runtime_dir, self._expected, CLIENTS, seed)

    def _warm_up(self, fleet: Fleet) -> None:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < LONGEST_WARM_UP_S:
            fleet.fill()
            if passed > WARM_UP_S and fleet.records.requests >= WARM_UP_REQUESTS:
                return
            time.sleep(STEP_S)

    def _chase(self, fleet: Fleet, killer: Killer, seconds: float) -> None:
        began = time.monotonic()
        minute = 1
        while (passed := time.monotonic() - began) < seconds:
            fleet.fill()
            killer.step(may_kill_daemon=passed < seconds * (1 - CALM_PART))
            if passed >= 60 * minute:
                self._console.print(f"minute {minute}: {self._line(fleet, killer)}")
                minute += 1
            time.sleep(STEP_S)
        killer.end()

    def _rest(self) -> Holdings:
        """Let everybody be served once more, leave, and wait until all is calm."""
        self.daemon.probe()
        return settled(self.daemon)

    def _stop(self) -> list[str]:
        """Stop the daemon; return what is left of it."""
        code, orphans = self.daemon.stop()
        left = [f"process {orphan.pid}" for orphan in orphans]
        left += [] if code == 0 else [f"exit code {code}"]
        left += shared_memory_of(self.daemon)
        left += [path.name for path in self.daemon.runtime_dir.glob("*.sock")]
        return left

    def _line(self, fleet: Fleet, killer: Killer) -> str:
        counts = fleet.records.counts
        errors: dict[str, int] = {}
        for name, count in counts.items():
            outcome = name.rpartition(" ")[2]
            if outcome != "right":
                errors[outcome] = errors.get(outcome, 0) + count
        told = [f"{fleet.records.requests} requests"]
        told += [f"{count} {code}" for code, count in sorted(errors.items())]
        told += [f"{count} {kind}" for kind, count in sorted(killer.deeds.counts().items())]
        return f"{', '.join(told)}; {_shown(holdings(self.daemon))}"


def show(verdict: Verdict, console: Console) -> None:
    """Print the verdict."""
    for trouble in verdict.lost[:SHOWN_SUSPECTS]:
        took = trouble.ended - trouble.started
        console.print(
            f"{trouble.kind}: {trouble.code} after {took:.1f} s: {trouble.text}", markup=False
        )
    table = Table("", "found", "wanted", "")
    for check in verdict.checks:
        mark = "yes" if check.passed else "[red]NO[/red]"
        table.add_row(check.name, check.found, check.wanted, mark)
    console.print(table)
    kills = ", ".join(f"{count} {kind}" for kind, count in sorted(verdict.kills.items()))
    console.print(f"{verdict.requests} requests; {kills or 'nothing was killed'}")
    console.print("passed" if verdict.passed else "[red]FAILED[/red]")


def _shown(found: Holdings) -> str:
    return (
        f"supervisor {found.supervisor_rss >> 20} MB, {found.descriptors} descriptors, "
        f"{found.threads} threads, {found.arenas} arenas, {found.children} children; "
        f"workers {found.worker_rss >> 20} MB, {found.worker_descriptors} descriptors, "
        f"{found.worker_arenas} arenas; {len(found.shared_memory)} names in shared memory"
    )
