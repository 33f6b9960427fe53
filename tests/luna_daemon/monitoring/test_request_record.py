"""What a finished request leaves: counts, a duration, lines in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
from luna_collection.luna_daemon import dispatcher
from luna_collection.luna_daemon.answer import Answer
from luna_collection.luna_daemon.config import DaemonConfig
from luna_collection.luna_daemon.errors import (
    BY_CODE,
    DeadlineError,
    InternalError,
    OutOfMemoryError,
)
from luna_collection.luna_daemon.monitoring.metrics import Metrics
from luna_collection.luna_daemon.monitoring.request_record import MODEL_CALLS, open_trace, record
from luna_collection.luna_daemon.monitoring.request_trace import Trace, current_trace, tracing
from luna_collection.luna_daemon.protocol.codec import failure
from luna_collection.luna_daemon.protocol.messages import (
    GetStatus,
    Ping,
    Pong,
    RegisterWorkflow,
    Request,
    Run,
    RunDone,
    ToDaemon,
)
from luna_collection.luna_daemon.protocol.segments import Segment, Slot
from luna_collection.luna_daemon.protocol.work import Conditioning, DecodeLatent, EncodeText, Images
from luna_collection.luna_daemon.sessions import Session
from luna_collection.luna_daemon.supervisor import Supervisor

SESSION = cast(Session, SimpleNamespace(number=3, tier="memfd", shared_tier="memfd"))


def daemon(**settings: Any) -> Supervisor:
    """What `record` looks at."""
    return cast(Supervisor, SimpleNamespace(metrics=Metrics(), config=DaemonConfig(**settings)))


def segment(nbytes: int, *, shared: bool = False) -> Segment:
    slot = Slot(arena=1, offset=0, generation=1) if shared else None
    return Segment(dtype="float32", shape=(nbytes // 4,), order=(0,), nbytes=nbytes, slot=slot)


def decode(*segments: Segment) -> Run:
    return Run(
        id=17,
        workflow_id="portraits",
        work=DecodeLatent(latent=0),
        deadline_s=9,
        idempotency_key="k",
        segments=segments,
    )


def encode(*texts: str) -> Run:
    work = EncodeText(texts=texts)
    return Run(id=17, workflow_id="portraits", work=work, deadline_s=9, idempotency_key="k")


def images(*segments: Segment, compute_ms: float = 5.0) -> Answer:
    return Answer(RunDone(id=17, result=Images(images=0), compute_ms=compute_ms, segments=segments))


def note(
    owner: Supervisor, request: Request, answer: Answer | None, session: Session = SESSION
) -> None:
    record(owner, session, open_trace(session, request), request, answer)


def test_model_calls_are_the_operations_of_models() -> None:
    assert set(MODEL_CALLS) >= {"encode_text", "decode_latent", "encode_image"}
    assert "echo" not in MODEL_CALLS


@pytest.mark.parametrize(
    ("request_", "operation", "workflow"),
    [
        (Ping(id=1), "ping", ""),
        (GetStatus(id=1), "get_status", ""),
        (
            RegisterWorkflow(id=1, workflow_id="w", model_type="SDXL", models={"vae": "v"}),
            *("register_workflow", "w"),
        ),
        (decode(), "decode_latent", "portraits"),
        (encode("a"), "encode_text", "portraits"),
    ],
)
def test_a_trace_says_what_is_asked_and_by_whom(
    request_: Request, operation: str, workflow: str
) -> None:
    trace = open_trace(SESSION, request_)
    assert (trace.operation, trace.workflow_id, trace.session) == (operation, workflow, 3)


def test_a_result_is_a_success_with_a_duration() -> None:
    owner = daemon()
    note(owner, decode(), images())
    note(owner, Ping(id=1), Answer(Pong(id=1)))
    counters = owner.metrics.counters()
    assert counters["request_success{operation=decode_latent}"] == 1
    assert counters["request_success{operation=ping}"] == 1
    assert not [name for name in counters if "failure" in name]
    assert owner.metrics.durations()["request{operation=decode_latent}"]["count"] == 1


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_a_failure_is_counted_by_its_code(code: str) -> None:
    owner = daemon()
    note(owner, decode(), Answer(failure(BY_CODE[code]("why"), 17)))
    counters = owner.metrics.counters()
    assert counters[f"request_failure{{operation=decode_latent,reason={code}}}"] == 1
    assert counters.get("deadline_expired", 0) == (code == "DEADLINE")
    assert counters.get("cancelled", 0) == (code == "CANCELED")


def test_a_request_that_was_given_up_is_cancelled() -> None:
    owner = daemon()
    note(owner, decode(), None)
    assert owner.metrics.counters() == {
        "cancelled": 1,
        "request_failure{operation=decode_latent,reason=CANCELED}": 1,
    }


def test_bytes_count_by_the_way_that_they_took() -> None:
    owner = daemon()
    note(owner, decode(segment(8)), images(segment(400, shared=True), segment(12)))
    note(owner, decode(segment(16)), images())
    assert owner.metrics.total("bytes", tier="inline", direction="in") == 24
    assert owner.metrics.total("bytes", tier="memfd", direction="out") == 400
    assert owner.metrics.total("bytes", tier="inline", direction="out") == 12
    assert owner.metrics.total("transport_requests", tier="memfd") == 1
    assert owner.metrics.total("transport_requests", tier="inline") == 1


def test_what_lay_in_shared_memory_did_so_also_after_a_demotion() -> None:
    owner = daemon()
    demoted = cast(Session, SimpleNamespace(number=3, tier="inline", shared_tier="named"))
    note(owner, decode(segment(400, shared=True)), images(), demoted)
    assert owner.metrics.total("bytes", tier="named") == 400


def test_hits_of_the_conditioning_cache_are_those_of_texts() -> None:
    owner = daemon()
    for hit in (True, False, True):
        done = RunDone(id=17, result=Conditioning(cond=0), cache_hit=hit)
        note(owner, encode("a"), Answer(done))
    note(owner, decode(), images())
    assert owner.metrics.total("conditioning_cache_hit") == 2
    assert owner.metrics.total("conditioning_cache_miss") == 1


def slow(owner: Supervisor, request: Run, answer: Answer | None) -> None:
    """A request of 12 s, of which 8 in the queue."""
    now = time.monotonic()
    trace = open_trace(SESSION, request)
    trace.started_at, trace.queued_at, trace.sent_at = now - 12, now - 11.5, now - 3.5
    record(owner, SESSION, trace, request, answer)


def test_a_slow_request_is_one_warning_that_says_where_the_time_went(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        slow(daemon(), decode(segment(64)), images(compute_ms=3400))
    (line,) = caplog.records
    fields = vars(line)
    assert (line.levelname, line.name) == ("WARNING", "luna.request")
    assert (fields["operation"], fields["queue_s"], fields["compute_s"]) == (
        *("decode_latent", pytest.approx(8, abs=0.1), 3.4),
    )
    assert fields["total_s"] == pytest.approx(12, abs=0.1)
    assert (fields["shapes"], fields["cache_hit"]) == (["float32[16]"], False)
    assert fields["outcome"] == "answered"
    text = line.getMessage()
    assert text.startswith("slow request: decode_latent: ")
    for part in ("queue_s 8.0", "compute_s 3.4", "total_s 12.0", "float32[16]", "cache_hit False"):
        assert part in text


def test_a_slow_request_that_failed_says_how(caplog: pytest.LogCaptureFixture) -> None:
    owner = daemon()
    slow(owner, decode(), Answer(failure(OutOfMemoryError("no room"), 17)))
    slow(owner, decode(), None)
    assert [vars(line)["outcome"] for line in caplog.records] == ["OOM", "CANCELED"]
    assert [vars(line)["compute_s"] for line in caplog.records] == [None, None]


def test_a_request_that_was_never_sent_has_waited_until_now(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trace, now = open_trace(SESSION, decode()), time.monotonic()
    trace.started_at, trace.queued_at = now - 12, now - 11
    record(daemon(), SESSION, trace, decode(), Answer(failure(DeadlineError("late"), 17)))
    assert vars(caplog.records[0])["queue_s"] == pytest.approx(11, abs=0.1)


def test_prompts_are_counted_but_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    slow(daemon(), encode("a secret garden", "b"), None)
    assert vars(caplog.records[0])["texts"] == 2
    assert "garden" not in caplog.text
    assert "garden" not in str(vars(caplog.records[0]))


@pytest.mark.parametrize(("limit", "lines"), [(0, 0), (11, 1), (13, 0)])
def test_the_limit_decides_and_zero_is_off(
    caplog: pytest.LogCaptureFixture, limit: float, lines: int
) -> None:
    with caplog.at_level(logging.INFO):
        slow(daemon(slow_request_s=limit), decode(), images())
    assert len(caplog.records) == lines


def test_registering_models_may_take_long(caplog: pytest.LogCaptureFixture) -> None:
    request = RegisterWorkflow(id=1, workflow_id="w", model_type="SDXL", models={"vae": "v"})
    trace = open_trace(SESSION, request)
    trace.started_at -= 100
    with caplog.at_level(logging.INFO):
        record(daemon(), SESSION, trace, request, None)
    assert caplog.records == []


def test_in_debug_every_request_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "luna"):
        note(daemon(), decode(), images())
        note(daemon(), Ping(id=1), Answer(Pong(id=1)))
    assert [line.levelname for line in caplog.records] == ["DEBUG", "DEBUG"]
    assert "compute_s 0.005" in caplog.records[0].getMessage()
    assert caplog.records[1].getMessage().startswith("ping: ")


def dispatched(
    monkeypatch: pytest.MonkeyPatch, handler: Callable[[], Awaitable[Answer]]
) -> tuple[Supervisor, asyncio.Task[Answer]]:
    """A task in which the dispatcher answers a ping with a handler of the test's own."""

    async def ping(*_: Any) -> Answer:
        return await handler()

    monkeypatch.setitem(dispatcher.HANDLERS, Ping, ping)
    owner = daemon()
    work = dispatcher.dispatch(owner, SESSION, Ping(id=9), ())
    return owner, asyncio.get_running_loop().create_task(work)


def test_the_dispatcher_records_results_failures_faults_and_cancelling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traces: list[Trace | None] = []

    async def handler() -> Answer:
        traces.append(current_trace())
        match len(traces):
            case 1:
                return Answer(Pong(id=9))
            case 2:
                raise DeadlineError("late")
            case 3:
                raise RuntimeError("a fault")
        await asyncio.sleep(60)
        raise AssertionError("it is cancelled before")

    async def run() -> list[dict[str, int]]:
        found = []
        for _ in range(4):
            owner, task = dispatched(monkeypatch, handler)
            done, _ = await asyncio.wait([task], timeout=0.3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert bool(done) == (len(found) < 3)
            found.append(owner.metrics.counters())
        assert current_trace() is None
        return found

    assert asyncio.run(run()) == [
        {"request_success{operation=ping}": 1},
        {"request_failure{operation=ping,reason=DEADLINE}": 1, "deadline_expired": 1},
        {"request_failure{operation=ping,reason=INTERNAL}": 1},
        {"request_failure{operation=ping,reason=CANCELED}": 1, "cancelled": 1},
    ]
    assert [trace and trace.request for trace in traces] == [9] * 4
    assert len({id(trace) for trace in traces}) == 4


def test_a_task_started_for_a_request_belongs_to_it_and_others_do_not() -> None:
    trace = Trace(1, 2, "ping")

    async def whose() -> Trace | None:
        return current_trace()

    async def run() -> None:
        with tracing(trace):
            inside = asyncio.create_task(whose())
            with tracing(None):
                nobodys = asyncio.create_task(whose())
        assert (await inside, await nobodys, await whose()) == (trace, None, None)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "reply", "counted"),
    [
        (None, Pong(id=9), {"request_success{operation=ping}": 1}),
        (
            DeadlineError("late"),
            failure(DeadlineError("late"), 9),
            {"request_failure{operation=ping,reason=DEADLINE}": 1, "deadline_expired": 1},
        ),
        (
            RuntimeError("a fault"),
            failure(
                InternalError(
                    "The daemon failed with this request.",
                    "Its log has the details: luna-daemon logs.",
                ),
                9,
            ),
            {"request_failure{operation=ping,reason=INTERNAL}": 1},
        ),
    ],
    ids=["result", "failure", "fault"],
)
def test_what_is_answered_at_once_is_recorded_like_everything_else(
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception | None,
    reply: Request,
    counted: dict[str, int],
) -> None:
    traces: list[Trace | None] = []

    def ping(*_: Any) -> Answer:
        traces.append(current_trace())
        if fault is not None:
            raise fault
        return Answer(Pong(id=9))

    monkeypatch.setitem(dispatcher.AT_ONCE, Ping, ping)
    owner = daemon()
    answer = dispatcher.answer_at_once(owner, SESSION, Ping(id=9))
    assert answer is not None
    assert (answer.message, owner.metrics.counters()) == (reply, counted)
    assert (traces[0] and traces[0].request, current_trace()) == (9, None)


def test_what_waits_for_something_is_not_answered_at_once() -> None:
    owner = daemon()
    assert dispatcher.answer_at_once(owner, SESSION, GetStatus(id=1)) is None
    assert owner.metrics.counters() == {}


def test_every_request_has_one_handler_and_work_whose_answer_may_be_known_two() -> None:
    kinds = {kind for kind in get_args(ToDaemon) if issubclass(kind, Request)}
    assert kinds == set(dispatcher.HANDLERS) | set(dispatcher.AT_ONCE)
    assert set(dispatcher.HANDLERS) & set(dispatcher.AT_ONCE) == {Run}
