from __future__ import annotations

import json
import typing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from luna_collection.luna_daemon import errors
from luna_collection.luna_daemon.protocol import codec, work
from luna_collection.luna_daemon.protocol import messages as m
from luna_collection.luna_daemon.protocol import worker_messages as wm
from luna_collection.luna_daemon.protocol.framing import Frame
from luna_collection.luna_daemon.protocol.segments import Segment, Slot

NONCE = "0123456789abcdef" * 4
SEGMENTS = (
    Segment(dtype="float32", shape=(2, 3), order=(1, 0), nbytes=24),
    Segment(
        dtype="bool", shape=(), order=(), nbytes=1, slot=Slot(arena=3, offset=64, generation=9)
    ),
)
SPEC = wm.ModelSpec(
    key="k1",
    role="text",
    path="/models/l.safetensors",
    precision="file",
    nbytes=2**40,
    activation=wm.ActivationUnits(text=9, decoded_pixel=8, encoded_pixel=7, cell_side_px=4),
    kind="clip",
    more_paths=("/models/g.safetensors",),
    options={"clip_type": "SDXL"},
)
RECIPE = work.Recipe(digest=NONCE, stages=msgspec.Raw(b'[{"t":[1]}]'), blobs={NONCE: 1})
VERSIONS = m.Versions(package="0.1.0", protocol=(1, 2), comfyui="0.25.0", torch="2.13.0")
TEXT = work.EncodeText(texts=("a cat", "", "ü 🐈"), clip_skip=2)
IMAGES = work.Images(images=0)

# Wire name → a message with every field set. The names are what other versions of us rely on: changing
# one breaks the protocol.
TO_DAEMON = {
    "hello": m.Hello(
        versions=VERSIONS, nonce=NONCE, pid=7, tiers=("memfd", "inline"), gpu_uuids=("GPU-1",)
    ),
    "proof": m.Proof(proof=NONCE),
    "ping": m.Ping(id=2**53),
    "register_workflow": m.RegisterWorkflow(
        id=1,
        workflow_id="w",
        model_type="SDXL",
        models={"clip_l": "a/b", "vae": "c"},
        parts={"clip": m.ModelPart(kind="clip", files=("l", "g"), options={"dtype": "float16"})},
        numerics={"comfyui": "0.25.0"},
    ),
    "release_workflow": m.ReleaseWorkflow(id=0, workflow_id="w"),
    "run": m.Run(
        id=4,
        workflow_id="w",
        work=TEXT,
        deadline_s=1.5,
        idempotency_key="i",
        reply_tier="memfd",
        pool="clip",
        priority=2,
        segments=SEGMENTS,
    ),
    "get_status": m.GetStatus(id=5),
    "stop": m.Stop(id=6),
    "cancel": m.Cancel(id=7),
    "acknowledge": m.Acknowledge(slots=((1, 64, 2), (1, 128, 3))),
    "demoted": m.Demoted(tier="memfd", to="inline", reason="one byte was wrong"),
}
TO_CLIENT = {
    "challenge": m.Challenge(nonce=NONCE, proof=NONCE),
    "welcome": m.Welcome(
        versions=VERSIONS,
        protocol=1,
        boot_id="b",
        session=3,
        tier="memfd",
        engine="hf",
        service_type="full",
    ),
    "pong": m.Pong(id=1),
    "registered": m.Registered(id=2, models={"vae": "k1"}, loaded_now=("vae",)),
    "released": m.Released(id=3),
    "run_done": m.RunDone(
        id=4, result=IMAGES, notes=("tiled",), cache_hit=True, compute_ms=0.25, segments=SEGMENTS
    ),
    "status_reply": m.StatusReply(id=5, status={"devices": [{"cpu": None}], "pid": 1}),
    "stopping": m.Stopping(id=6),
    "failure": m.Failure(
        id=7, code="OOM", message="a", hint="b", retryable=True, retry_after_s=2.5
    ),
    "progress": m.Progress(id=8, done=3, total=20),
    "notice": m.Notice(id=9, text="once more"),
    "offer_arena": m.OfferArena(arena=1, nbytes=2**28, backing="named", writer="client", name="n"),
    "drop_arena": m.DropArena(arena=5),
}
TO_WORKER = {
    "setup": wm.Setup(
        name="cpu/0",
        engine="hf",
        device="cpu",
        conditioning_cache_bytes=1,
        log_level="info",
        comfyui_path="/c",
        patch_cache_bytes=2,
        numerics={"fast": ""},
    ),
    "load_model": wm.LoadModel(id=1, spec=SPEC, image=True),
    "unload_model": wm.UnloadModel(id=2, key="k1"),
    "move_model": wm.MoveModel(id=8, key="k1", place="ram"),
    "run_job": wm.RunJob(
        id=3,
        model_type="SDXL",
        models={"vae": "k1"},
        work=work.DecodeLatent(latent=0, tiling=work.Tiling(tile=256, overlap=32)),
        reply_arena=2,
        inline_bytes=4096,
        more=3,
        segments=SEGMENTS,
    ),
    "cancel_job": wm.CancelJob(id=4),
    "free_slots": wm.FreeSlots(slots=((1, 64, 2),)),
    "offer_arena": TO_CLIENT["offer_arena"],
    "drop_arena": TO_CLIENT["drop_arena"],
    "ping": m.Ping(id=6),
    "get_cache_state": wm.GetCacheState(id=7),
}
FROM_WORKER = {
    "ready": wm.Ready(torch="2.13.0", comfyui="0.25.0"),
    "loaded": wm.Loaded(id=1, nbytes=10, seconds=0.5),
    "unloaded": wm.Unloaded(id=2),
    "moved": wm.Moved(id=4, seconds=0.25),
    "job_done": wm.JobDone(
        id=3,
        result=work.Conditioning(cond=0, pooled=1),
        notes=("x",),
        cache_hit=True,
        compute_ms=1.5,
        arena_full=True,
        unpack_ms=0.1,
        pack_ms=0.2,
        segments=SEGMENTS,
    ),
    "failure": TO_CLIENT["failure"],
    "progress": TO_CLIENT["progress"],
    "pong": m.Pong(id=4),
    "cache_state": wm.CacheState(
        id=5, entries=1, nbytes=2, hits=3, misses=4, patch_sets=5, patch_bytes=6
    ),
    "log_line": wm.LogLine(level=30, logger="worker", text="x", job=5),
}
DIRECTIONS = {
    "to daemon": (m.ToDaemon, codec.to_daemon, TO_DAEMON),
    "to client": (m.ToClient, codec.to_client, TO_CLIENT),
    "to worker": (wm.ToWorker, codec.to_worker, TO_WORKER),
    "from worker": (wm.FromWorker, codec.from_worker, FROM_WORKER),
}
each_direction = pytest.mark.parametrize(
    ("union", "decoder", "table"), DIRECTIONS.values(), ids=DIRECTIONS.keys()
)
every_message = pytest.mark.parametrize(
    ("decoder", "name", "message"),
    [
        pytest.param(decoder, name, message, id=f"{direction} {name}")
        for direction, (_, decoder, table) in DIRECTIONS.items()
        for name, message in table.items()
    ],
)

# The same for what is asked of a model, and for what comes back.
WORK = {
    "encode_text": TEXT,
    "decode_latent": work.DecodeLatent(latent=1, tiling=work.Tiling(tile=64, overlap=0)),
    "encode_image": work.EncodeImage(image=2, tiling=work.Tiling(tile=8192, overlap=4096)),
    "echo": work.Echo(tensor=65535),
    "call_model": work.CallModel(
        kind="clip_vision",
        role="vision",
        method="encode_image",
        module="clip_l",
        state=msgspec.Raw(b'{"d":[]}'),
        arguments=msgspec.Raw(b'{"t":[]}'),
        recipe=RECIPE,
        also=("other",),
        settings={"autocast.cpu": "bfloat16"},
        random={"cpu": 3},
    ),
    "fetch_weights": work.FetchWeights(
        kind="vae", role="vae", names=("a.weight",), recipe=RECIPE, also=("other",)
    ),
}
RESULTS = {
    "conditioning": work.Conditioning(cond=0, pooled=1),
    "images": IMAGES,
    "latents": work.Latents(latents=3),
    "echoed": work.Echoed(tensor=0),
    "returned": work.Returned(value=msgspec.Raw(b'{"x":0}'), random={"cpu": 1}),
    "weights": work.Weights(tensors=(0, 2)),
    "needed": work.Needed(recipe=True, blobs=(NONCE,), random=True),
}


def decode(header: bytes | dict[str, object], decoder: codec.Decoder = codec.to_daemon) -> object:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return decoder.decode(Frame(raw))


def plain(message: object) -> dict[str, object]:
    fields: dict[str, object] = json.loads(codec.encode(message))
    return fields


@each_direction
def test_the_table_has_every_message(union, decoder, table):
    assert {type(message) for message in table.values()} == set(typing.get_args(union))


def left_at_default(message: object) -> set[str]:
    defaults = {f.name: f.default for f in msgspec.structs.fields(message) if not f.required}
    return {name for name, value in defaults.items() if getattr(message, name) == value}


@every_message
def test_the_example_of_a_message_sets_every_field(decoder, name, message):
    assert left_at_default(message) <= {"segments"}


@every_message
def test_a_message_comes_back_as_it_was(decoder, name, message):
    assert decode(codec.encode(message), decoder) == message


@every_message
def test_the_wire_name_of_a_message_stays(decoder, name, message):
    assert plain(message)["type"] == name


@every_message
def test_an_unknown_field_is_refused(decoder, name, message):
    with pytest.raises(errors.ProtocolError, match="unknown field `surprise`"):
        decode({**plain(message), "surprise": 1}, decoder)


@every_message
def test_a_missing_field_is_refused(decoder, name, message):
    needed = [f.encode_name for f in msgspec.structs.fields(message) if f.required]
    for field in needed:
        rest = {key: value for key, value in plain(message).items() if key != field}
        with pytest.raises(errors.ProtocolError, match=f"missing required field `{field}`"):
            decode(rest, decoder)


@every_message
def test_a_value_of_the_wrong_kind_is_refused(decoder, name, message):
    for field in msgspec.structs.fields(message):
        with pytest.raises(errors.ProtocolError, match="cannot be understood"):
            decode({**plain(message), field.encode_name: [None]}, decoder)


@pytest.mark.parametrize(
    ("union", "table", "tag"),
    [(work.AnyWork, WORK, "op"), (work.AnyResult, RESULTS, "kind")],
    ids=["work", "results"],
)
def test_the_wire_names_of_work_and_results_stay(union, table, tag):
    assert {type(value) for value in table.values()} == set(typing.get_args(union))
    assert {name: json.loads(msgspec.json.encode(value))[tag] for name, value in table.items()} == {
        name: name for name in table
    }


@pytest.mark.parametrize("asked", WORK.values(), ids=WORK.keys())
def test_work_comes_back_as_it_was(asked):
    run = m.Run(id=1, workflow_id="w", work=asked, deadline_s=1, idempotency_key="i")
    back = decode(codec.encode(run)).work
    assert type(back) is type(asked)
    assert codec.encode(msgspec.structs.replace(run, work=back)) == codec.encode(run)


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS.keys())
def test_a_result_comes_back_as_it_was(result):
    done = m.RunDone(id=1, result=result)
    back = decode(codec.encode(done), codec.to_client).result
    assert type(back) is type(result)
    assert codec.encode(msgspec.structs.replace(done, result=back)) == codec.encode(done)


def test_defaults_are_not_sent():
    assert plain(m.Ping(id=1)) == {"type": "ping", "id": 1}


def test_replacing_the_segments_changes_nothing_else():
    before = TO_DAEMON["run"]
    after = codec.replace_segments(before, ())
    assert (after.segments, plain(after)) == (
        (),
        {key: value for key, value in plain(before).items() if key != "segments"},
    )


RUN = plain(TO_DAEMON["run"])
HELLO = plain(TO_DAEMON["hello"])
REGISTER = plain(TO_DAEMON["register_workflow"])
REFUSED = {
    "unknown type": {"type": "run_code", "id": 1},
    "no type": {"id": 1},
    "class name as type": {"type": "Ping", "id": 1},
    "null": b"null",
    "a list": b"[]",
    "nothing": b"",
    "half a message": b'{"type":"ping",',
    "two messages": b'{"type":"ping","id":1}{"type":"ping","id":2}',
    "not UTF-8 in a value": b'{"type":"release_workflow","id":1,"workflow_id":"\xff\xfe"}',
    "not UTF-8 in a name": b'{"type":"ping","id":1,"\xff":1}',
    "half a surrogate pair": b'{"type":"release_workflow","id":1,"workflow_id":"\\ud800"}',
    "UTF-16": '{"type":"ping","id":1}'.encode("utf-16"),
    "deeply nested value": b'{"type":"ping","id":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "deeply nested object": b'{"type":"ping","id":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
    "negative id": {"type": "ping", "id": -1},
    "id over 2**53": {"type": "ping", "id": 2**53 + 1},
    "huge id": b'{"type":"ping","id":1' + b"0" * 400 + b"}",
    "fraction as id": {"type": "ping", "id": 1.5},
    "text as id": {"type": "ping", "id": "1"},
    "infinite deadline": json.dumps({**RUN, "deadline_s": 1e300}).encode(),
    "negative deadline": {**RUN, "deadline_s": -0.001},
    "NaN as deadline": json.dumps({**RUN, "deadline_s": float("nan")}).encode(),
    "no texts": {**RUN, "work": {"op": "encode_text", "texts": []}},
    "too many texts": {**RUN, "work": {"op": "encode_text", "texts": ["a"] * 257}},
    "too long text": {**RUN, "work": {"op": "encode_text", "texts": ["a" * 200_001]}},
    "too high clip skip": {**RUN, "work": {"op": "encode_text", "texts": ["a"], "clip_skip": 65}},
    "unknown work": {**RUN, "work": {"op": "eval", "text": "1"}},
    "unknown field of work": {**RUN, "work": {"op": "echo", "tensor": 0, "path": "/"}},
    "tensor index over the limit": {**RUN, "work": {"op": "echo", "tensor": 65536}},
    "tile too small": {**RUN, "work": {"op": "decode_latent", "latent": 0, "tiling": {"tile": 63}}},
    "empty workflow id": {**REGISTER, "workflow_id": ""},
    "too long workflow id": {**REGISTER, "workflow_id": "w" * 257},
    "too many models": {**REGISTER, "models": {str(n): "a" for n in range(17)}},
    "empty model path": {**REGISTER, "models": {"vae": ""}},
    "too long model path": {**REGISTER, "models": {"vae": "a" * 4097}},
    "nonce too short": {**HELLO, "nonce": "ab"},
    "nonce that is no hex": {**HELLO, "nonce": "g" * 64},
    "nonce in capitals": {**HELLO, "nonce": "A" * 64},
    "nonce with a line end": {**HELLO, "nonce": NONCE + "\n"},
    "one protocol version": {**HELLO, "versions": {"package": "1", "protocol": [1]}},
    "negative slot": {"type": "acknowledge", "slots": [[1, -64, 1]]},
    "slot of two numbers": {"type": "acknowledge", "slots": [[1, 64]]},
    "slot over 2**48": {"type": "acknowledge", "slots": [[1, 2**48 + 1, 1]]},
    "too long reason": {"type": "demoted", "tier": "a", "to": "b", "reason": "r" * 501},
}


@pytest.mark.parametrize("header", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused(header):
    with pytest.raises(errors.ProtocolError, match=r"^A message cannot be understood"):
        decode(header)


def test_a_deeply_nested_status_is_refused():
    head = b'{"type":"status_reply","id":1,"status":{"a":'
    with pytest.raises(errors.ProtocolError):
        decode(head + b"[" * 50_000 + b"]" * 50_000 + b"}}", codec.to_client)


FOREIGN = [
    pytest.param(reader, message, id=f"{name} as a message {direction}")
    for direction, (_, reader, own) in DIRECTIONS.items()
    for _, _, table in DIRECTIONS.values()
    for name, message in table.items()
    if name not in own
]


@pytest.mark.parametrize(("decoder", "message"), FOREIGN)
def test_a_message_of_another_direction_is_refused(decoder, message):
    with pytest.raises(errors.ProtocolError, match="cannot be understood"):
        decode(codec.encode(message), decoder)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_protocol_errors(header):
    with pytest.raises(errors.ProtocolError):
        decode(header)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(TO_DAEMON)), st.data())
def test_random_values_raise_nothing_but_protocol_errors(name, data):
    fields = plain(TO_DAEMON[name])
    field = data.draw(st.sampled_from(sorted(fields)))
    try:
        decode({**fields, field: data.draw(json_values)})
    except errors.ProtocolError:
        return


# Code → class and `retryable`. Clients of other versions rely on them.
CODES = {
    "REJECTED": (errors.RejectedError, True),
    "DEADLINE": (errors.DeadlineError, False),
    "CANCELED": (errors.CanceledError, False),
    "NOT_FOUND": (errors.NotFoundError, False),
    "OOM": (errors.OutOfMemoryError, False),
    "WORKER_DIED": (errors.WorkerDiedError, True),
    "INCOMPATIBLE": (errors.IncompatibleError, False),
    "AUTH": (errors.AuthError, False),
    "BAD_REQUEST": (errors.BadRequestError, False),
    "DRAINING": (errors.DrainingError, True),
    "INTERNAL": (errors.InternalError, False),
}
each_code = pytest.mark.parametrize(
    ("code", "kind", "retryable"), [(c, *rest) for c, rest in CODES.items()], ids=CODES.keys()
)


def test_the_table_has_every_code():
    assert {code: kind for code, (kind, _) in CODES.items()} == errors.BY_CODE


@each_code
def test_an_error_becomes_a_failure(code, kind, retryable):
    reply = codec.failure(kind("It went wrong.", "Do this."), 7)
    assert (reply.id, reply.code, reply.message, reply.hint, reply.retryable) == (
        7,
        code,
        "It went wrong.",
        "Do this.",
        retryable,
    )


@each_code
def test_a_failure_becomes_the_error(code, kind, retryable):
    error = codec.error_of(m.Failure(id=1, code=code, message="It went wrong.", hint="Do this."))
    assert (type(error), error.message, error.hint) == (kind, "It went wrong.", "Do this.")


def test_a_failure_of_an_unknown_code_becomes_an_internal_error():
    error = codec.error_of(m.Failure(id=1, code="FROM_THE_FUTURE", message="a", hint="b"))
    assert (type(error), error.message, error.hint) == (errors.InternalError, "a", "b")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ProtocolError("a"), "BAD_REQUEST"),
        (errors.ConnectionLostError("a"), "INTERNAL"),
        (errors.DaemonUnreachableError("a"), "INTERNAL"),
        (errors.DaemonError("a"), "INTERNAL"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_error_without_a_code_of_its_own_is_sent_as_the_nearest(error, code):
    assert codec.failure(error, 1).code == code


def test_a_rejection_keeps_the_time_after_which_to_try_again():
    sent = codec.failure(errors.RejectedError("full", "wait", retry_after_s=12.5), 1)
    error = codec.error_of(decode(codec.encode(sent), codec.to_client))
    assert (type(error), error.retry_after_s) == (errors.RejectedError, 12.5)


@pytest.mark.parametrize(
    ("theirs", "ours", "agreed"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 3), (1, 2), 2),
        ((1, 2), (1, 3), 2),
        ((2, 5), (1, 3), 3),
        ((1, 3), (2, 5), 3),
        ((3, 3), (1, 3), 3),
        ((1, 1), m.PROTOCOL_VERSIONS, 1),
    ],
    ids=str,
)
def test_the_highest_common_version_is_agreed_on(theirs, ours, agreed):
    assert codec.agree_version(theirs, ours) == agreed


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [((1, 1), (2, 3)), ((4, 5), (2, 3)), ((5, 1), (1, 5)), ((0, 0), (1, 1))],
    ids=["older", "newer", "turned round", "zero"],
)
def test_without_a_common_version_the_ends_do_not_fit(theirs, ours):
    with pytest.raises(errors.IncompatibleError) as refused:
        codec.agree_version(theirs, ours)
    assert refused.value.message == (
        f"The client speaks protocol versions {theirs[0]} to {theirs[1]}, "
        f"the daemon {ours[0]} to {ours[1]}."
    )


@pytest.mark.parametrize(
    ("header", "number"),
    [
        ({"type": "run", "id": 7, "work": "nonsense"}, 7),
        ({"type": "ping", "id": 2**53, "surprise": 1}, 2**53),
        ({"type": "ping", "id": -1}, None),
        ({"type": "ping"}, None),
        ({"type": "cancel", "id": 7, "surprise": 1}, None),
        ({"type": "pong", "id": 7}, None),
        ({"id": 7}, None),
        (b"[7]", None),
        (b"\xff", None),
    ],
    ids=str,
)
def test_the_id_of_a_request_that_makes_no_sense_can_still_be_read(header, number):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    assert getattr(codec.request_head_of(Frame(raw)), "id", None) == number


@pytest.mark.parametrize("text", ["\ud800", object()], ids=["half a character", "no text"])
def test_what_no_message_can_carry_is_a_bad_request_of_its_own_caller(text):
    request = m.Run(
        id=1,
        workflow_id="w",
        work=work.EncodeText(texts=(text,)),
        deadline_s=1,
        idempotency_key="i",
    )
    with pytest.raises(errors.BadRequestError, match="cannot be sent") as caught:
        codec.encode(request)
    assert not isinstance(caught.value, errors.ProtocolError)
