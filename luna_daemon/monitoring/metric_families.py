"""Every metric of the daemon, once: name, kind, labels, meaning.

`Metrics` refuses what is not in this table; the exposition and docs/monitoring.md are derived from it.
A label has few values, all of the daemon's own making: an operation, an error's code, a device, a role, a
way of transport. Workflows, clients and models have no label; they are in the log and in the status.
"""

from __future__ import annotations

from dataclasses import dataclass

COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"
PREFIX = "luna_"
SUFFIX = {COUNTER: "_total", GAUGE: "", HISTOGRAM: "_seconds"}

# Upper bounds of the buckets, in seconds.
_REQUEST_BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)
_LOAD_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its labels. Histograms are in seconds."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def exposed_name(self) -> str:
        """What it is called at the HTTP port."""
        return f"{PREFIX}{self.name}{SUFFIX[self.kind]}"


def _counter(name: str, meaning: str, *labels: str) -> Family:
    return Family(name, COUNTER, meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Family:
    return Family(name, GAUGE, meaning, labels)


def _histogram(
    name: str, meaning: str, *labels: str, bounds: tuple[float, ...] = _REQUEST_BOUNDS
) -> Family:
    return Family(name, HISTOGRAM, meaning, labels, bounds)


_REQUESTS = (
    _counter("request_success", "Requests that were answered with a result.", "operation"),
    _counter(
        "request_failure",
        "Requests that were answered with a failure; the reason is its code.",
        *("operation", "reason"),
    ),
    _counter(
        "inference_count",
        "Requests that were sent to a worker to run a model; one that runs once more counts again.",
        "operation",
    ),
    _counter(
        "exec_count",
        "Groups in which they were sent; inference_count / exec_count is the size of a group.",
        "operation",
    ),
    _counter("queue_rejected", "Requests that found a full queue.", "device"),
    _counter("deadline_expired", "Requests that were not finished in the time given."),
    _counter("cancelled", "Requests that their client gave up, or whose client left."),
    _histogram(
        "request", "From a request's arrival to its answer, sending not included.", "operation"
    ),
    _histogram(
        "queue",
        "From a request's place in a queue to its sending to a worker, loads in between included.",
        "device",
    ),
    _histogram("transport_in", "A worker copies a request's tensors, if it has any.", "operation"),
    _histogram("compute", "A worker's engine does the work.", "operation"),
    _histogram("transport_out", "A worker copies a result's tensors.", "operation"),
    _gauge("pending", "Requests that wait in a queue.", "device"),
)
_TRANSPORT = (
    _counter(
        "transport_requests",
        "Model calls by the best way that their tensors took: shared memory (memfd, named) or inline.",
        "tier",
    ),
    _counter(
        "transport_demotions",
        "Sessions that gave up this way of transport for sending everything inline.",
        "tier",
    ),
    _counter(
        "bytes",
        "Bytes of tensors, from clients (in) and to clients (out).",
        *("tier", "direction"),
    ),
    _counter("arena_full", "Results that came inline because the shared memory had no room."),
)
_MODELS = (
    _counter(
        "conditioning_cache_hit", "Text requests answered from the conditioning cache, all texts."
    ),
    _counter("conditioning_cache_miss", "Text requests that had to be computed, in part at least."),
    _counter(
        "answer_cache_hit",
        "Those of the hits that the daemon's own process answered, without a worker.",
    ),
    _gauge("answer_cache_bytes", "Memory of the answers that it keeps for that."),
    _counter("model_loads", "Models that were read into memory.", "role", "device"),
    _counter("model_evictions", "Models that were dropped to make room.", "role", "device"),
    _histogram("model_load", "A worker reads a model into memory.", "role", bounds=_LOAD_BOUNDS),
    _gauge("model_bytes", "Memory that the weights of loaded models hold.", "role", "device"),
    _gauge("weight_bytes", "Part of the budget that weights take.", "device"),
    _gauge(
        "reserved_bytes",
        "What other programs should leave free: the weights and the largest request so far.",
        "device",
    ),
    _gauge("asleep_bytes", "RAM that models take which had to leave a GPU.", "device"),
    _gauge("budget_bytes", "Memory that models may take.", "device"),
    _gauge("leases", "Claims of workflows on their models, of lost connections too."),
)
_PROCESSES = (
    _gauge("sessions", "Clients that are connected."),
    _counter("sessions_opened", "Clients that were let in."),
    _counter("connections_refused", "Connections that were closed for a reason.", "reason"),
    _gauge("workers", "Worker processes that live.", "device"),
    _counter("worker_starts", "Worker processes that were started.", "device"),
    _counter("worker_restarts", "Those of them that took the place of a dead one.", "device"),
    _gauge("worker_rss_bytes", "Resident memory of the worker processes.", "device"),
    _gauge("rss_bytes", "Resident memory of the daemon's own process."),
    _gauge("start_time_seconds", "When the daemon started, in seconds since 1970."),
    _gauge(
        "build_info", "Always 1; the labels say what runs.", "version", "engine", "service_type"
    ),
)
FAMILIES: tuple[Family, ...] = (*_REQUESTS, *_TRANSPORT, *_MODELS, *_PROCESSES)


def metrics_table() -> str:
    """Return the Markdown table of docs/monitoring.md."""
    rows = ["| metric | kind | labels | what it says |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.exposed_name}` | {family.kind} | {labels} | {family.meaning} |")
    return "\n".join(rows)
