"""Which troubles were allowed at their moment, and whether the whole soak was passed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .killer import DAEMON_KILLED, WORKER_KILLED, WORKER_STOPPED, Incident
from .measure import Holdings
from .tally import HANG, WRONG, Trouble

RSS_GROWTH = 1.10
# What a request may end with while there is no daemon; of bare connections, what the system says.
WHILE_AWAY = {"UNREACHABLE", "CONNECTION_LOST", "DRAINING"}
RAW_WHILE_AWAY = {"ConnectionRefusedError", "FileNotFoundError", "ConnectionResetError"}
RAW_ALWAYS = {"BrokenPipeError", "ConnectionResetError"}  # cut off while it still spoke
MAY_DIE = 2  # deaths of workers that a request must survive one less of


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict."""

    name: str
    found: str
    wanted: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that came out."""

    requests: int
    outcomes: Mapping[str, int]
    kills: Mapping[str, int]
    checks: Sequence[Check]
    lost: Sequence[Trouble] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        """Is everything as it has to be?"""
        return all(check.passed for check in self.checks)

    def record(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {"passed": self.passed, **asdict(self)}


def is_allowed(trouble: Trouble, incidents: Sequence[Incident]) -> bool:
    """Say whether what was done just then explains how a request ended."""
    near = [one for one in incidents if _overlap(trouble, one)]
    if trouble.kind == "raw" and trouble.code in RAW_ALWAYS:
        return True
    if any(one.kind == DAEMON_KILLED for one in near):
        return trouble.code in WHILE_AWAY or (
            trouble.kind == "raw" and trouble.code in RAW_WHILE_AWAY
        )
    deaths = sum(one.kind in (WORKER_KILLED, WORKER_STOPPED) for one in near)
    return trouble.code == "WORKER_DIED" and deaths >= MAY_DIE


def judge(
    outcomes: Mapping[str, int],
    troubles: Sequence[Trouble],
    incidents: Sequence[Incident],
    held: tuple[Holdings, Holdings],
    left_over: Sequence[str],
) -> Verdict:
    """Return the verdict.

    Args:
        outcomes: What was counted.
        troubles: What ended otherwise than it does when nothing is killed.
        incidents: What was killed and stopped.
        held: What the daemon held at the start and at the end.
        left_over: Processes and names that should be gone.
    """
    before, after = held
    codes = Counter(trouble.code for trouble in troubles)
    lost = [
        one for one in troubles if one.code not in (WRONG, HANG) and not is_allowed(one, incidents)
    ]
    rss = after.supervisor_rss / before.supervisor_rss
    checks = [
        _none("wrong results", codes[WRONG]),
        _none("lost requests", len(lost)),
        _none("hangs", codes[HANG]),
        Check(
            "supervisor's memory",
            f"{_mb(before.supervisor_rss)} to {_mb(after.supervisor_rss)} MB",
            f"at most {RSS_GROWTH - 1:.0%} more",
            rss <= RSS_GROWTH,
        ),
        _same("supervisor's descriptors", before.descriptors, after.descriptors),
        _same("supervisor's arenas", before.arenas, after.arenas),
        _same("child processes", before.children, after.children),
        _same("worker's arenas", before.worker_arenas, after.worker_arenas),
        _same("worker's descriptors", before.worker_descriptors, after.worker_descriptors),
        _same("names in shared memory", before.shared_memory, after.shared_memory),
        Check("left over at the end", ", ".join(left_over) or "nothing", "nothing", not left_over),
    ]
    suspects = [one for one in troubles if one.code in (WRONG, HANG)] + lost
    return Verdict(
        requests=sum(outcomes.values()),
        outcomes=dict(sorted(outcomes.items())),
        kills=dict(Counter(one.kind for one in incidents)),
        checks=checks,
        lost=suspects,
    )


def _overlap(trouble: Trouble, incident: Incident) -> bool:
    return trouble.started <= incident.ended and incident.started <= trouble.ended


def _none(name: str, found: int) -> Check:
    return Check(name, str(found), "0", found == 0)


def _same(name: str, before: object, after: object) -> Check:
    return Check(name, f"{before} to {after}", "the same", before == after)


def _mb(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f}"
