"""Many clients at once: what a request costs, and how long the slowest wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ..clocks import cpu_cost
from ..entries import HIGHER, LOWER, Bench, Entry, ratio_entry
from ..models import CLIP_L, make_text_encoder
from ..pairs import compare, percentile, summarize
from .children import Teller
from .private_daemon import PrivateDaemon

COUNTS = (8, 64)  # each against one client
PROCESSES = 4  # that the clients are spread over
CALLS = 640  # of all clients together, for each sample


@dataclass(slots=True)
class Crowd:
    """Some clients in processes of their own, and what their calls have cost so far."""

    count: int
    processes: list[Teller]
    daemon: PrivateDaemon
    cpu_s: list[float] = field(default_factory=list)  # per call
    p99_ms: list[float] = field(default_factory=list)  # of each sample

    def sample(self) -> float:
        """Let all clients make their calls at once; return the CPU seconds of one call."""
        times: list[float] = []
        calls = CALLS // self.count

        def run() -> None:
            for process in self.processes:
                process.tell(calls=calls)
            for process in self.processes:
                times.extend(process.hear()["times_ms"])

        pids = [*self.daemon.pids(), *(process.pid for process in self.processes)]
        cost = cpu_cost(run, pids) / (calls * self.count)
        self.cpu_s.append(cost)
        self.p99_ms.append(percentile(times, 99))
        return cost


def measure(bench: Bench) -> Iterator[Entry]:
    """Compare 8 and 64 clients with one."""
    encoder = make_text_encoder(bench.folder / "models" / "clip-l", CLIP_L)
    with (
        PrivateDaemon(bench.folder, model_roots=bench.folder / "models") as daemon,
        ExitStack() as stack,
    ):
        bench.tell("starting clients")
        one, *many = (_start(stack, daemon, encoder, count) for count in (1, *COUNTS))
        for crowd in many:
            result = compare(one.sample, crowd.sample, bench.plan, bench.tell_pair)
            yield ratio_entry(
                f"requests per CPU-second, {crowd.count} clients / 1",
                result,
                None,
                HIGHER,
                f"Encodes of a cached text (CLIP-L) per CPU-second of clients and daemon, by "
                f"{crowd.count} clients in {PROCESSES} processes against one client.",
            )
        yield _throughput(one)
        for crowd in (one, *many):
            yield _slowest(crowd)


def _throughput(one: Crowd) -> Entry:
    rates = summarize([1 / cost for cost in one.cpu_s[1:]])
    return Entry(
        name="requests per CPU-second, 1 client",
        value=rates.value,
        unit="1/s",
        goal=None,
        better=HIGHER,
        n=rates.n,
        spread=rates.spread,
        how="Encodes of a cached text (CLIP-L, 236 kB of conditioning) by one client, per CPU-second "
        "of client, supervisor and worker together.",
    )


def _slowest(crowd: Crowd) -> Entry:
    slowest = summarize(crowd.p99_ms[1:])
    who = "1 client asks" if crowd.count == 1 else f"{crowd.count} clients ask"
    return Entry(
        name=f"p99 of a request, {crowd.count} client{'s' if crowd.count > 1 else ''}",
        value=slowest.value,
        unit="ms",
        goal=None,
        better=LOWER,
        n=slowest.n,
        spread=slowest.spread,
        how=f"Wall p99 of encodes of a cached text (CLIP-L) while {who} as fast as answers "
        f"come; the median of samples of {CALLS} calls.",
    )


def _start(stack: ExitStack, daemon: PrivateDaemon, encoder: Path, count: int) -> Crowd:
    processes = []
    for number in range(min(PROCESSES, count)):
        clients = str(count // min(PROCESSES, count))
        workflow = f"crowd{count}-{number}"
        arguments = (str(daemon.runtime_dir), str(encoder), workflow, "--clients", clients)
        process = Teller("load_clients", *arguments)
        stack.callback(process.end)
        processes.append(process)
    for process in processes:
        process.hear()
    return Crowd(count, processes, daemon)
