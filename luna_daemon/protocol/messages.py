"""Every message between a client and the daemon, one struct each.

A request has an `id` that its reply repeats. The wire name of a message is its class name in
snake_case, in the header's field `type`. docs/protocol.md tells the order in which they travel.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ...utils.model_types import ModelKind
from .names import wire_name
from .segments import Segment, Size
from .work import AnyResult, AnyWork

# The range of protocol versions this code speaks. Raise the upper end with every new message or
# field; raise the lower end when an old one is no longer understood.
PROTOCOL_VERSIONS = (1, 1)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
PathText = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Hex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
RequestId = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Priority = Annotated[int, msgspec.Meta(ge=0, le=2)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=7 * 24 * 3600)]


class Message(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="type",
    tag=wire_name,
):
    """Base of every message. `segments` describes the tensors that travel with it."""

    segments: tuple[Segment, ...] = ()


class Versions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Versions of one end. ComfyUI and torch are empty where that end has not loaded them."""

    package: str
    protocol: tuple[int, int]
    comfyui: str = ""
    torch: str = ""


class Hello(Message):
    """client → daemon, first. `nonce`: 32 random bytes for the daemon's proof."""

    versions: Versions
    nonce: Hex
    pid: int
    tiers: tuple[str, ...]  # transport tiers that the client can use, best first
    gpu_uuids: tuple[str, ...] = ()


class Challenge(Message):
    """daemon → client over TCP: proof that the daemon knows the token, and a nonce for the client."""

    nonce: Hex
    proof: Hex


class Proof(Message):
    """client → daemon over TCP: proof that the client knows the token."""

    proof: Hex


class Welcome(Message):
    """daemon → client: the session is open."""

    versions: Versions
    protocol: int  # the version both ends will speak
    boot_id: str
    session: int
    tier: str  # the best tier that both ends have; the canary decides whether it is used
    engine: str
    service_type: str


class Request(Message):
    """Base of everything that gets exactly one reply."""

    id: RequestId


class Ping(Request):
    """Is the daemon there?"""


class ModelPart(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One object of ComfyUI: a CLIP, a VAE or a CLIP vision model, made of one or several files.

    `files`: below the daemon's model roots, in the order in which ComfyUI's loader takes them.
    `options`: what the loader is told beside the files, and what decides about the values: clip_type,
    dtype, "checkpoint" for an object that is baked into a checkpoint, "inside" for text encoders of which
    some are: for each file, with commas between them, the role of the encoder to take out of it, or nothing.
    """

    kind: ModelKind
    files: Annotated[tuple[PathText, ...], msgspec.Meta(min_length=1, max_length=8)]
    options: Annotated[dict[Name, str], msgspec.Meta(max_length=32)] = {}


class RegisterWorkflow(Request):
    """This workflow needs these models: load them and keep them while the connection lasts.

    `models`: role → a file or folder below the daemon's model roots (absolute, or relative to a root).
    `parts`: role → a whole object of ComfyUI, for the comfy engine. What was registered for the same
    workflow before and is not named again is no longer claimed. `numerics`: settings of the client's
    ComfyUI that decide about values (version, attention, --fast, …), which the worker must share.
    """

    workflow_id: Name
    model_type: Name
    models: Annotated[dict[Name, PathText], msgspec.Meta(max_length=16)] = {}
    parts: Annotated[dict[Name, ModelPart], msgspec.Meta(max_length=64)] = {}
    numerics: Annotated[dict[Name, str], msgspec.Meta(max_length=64)] = {}


class ReleaseWorkflow(Request):
    """This session no longer needs the workflow's models."""

    workflow_id: Name


class Run(Request):
    """Call a model of a registered workflow.

    `deadline_s`: seconds from arrival; later the work is dropped. `idempotency_key`: the same for every
    resend of one call, so that a call which kills workers is known again. `reply_tier`: how the
    result's tensors may travel. `priority`: 0 is served before 1, and 1 before 2.
    """

    workflow_id: Name
    work: AnyWork
    deadline_s: Seconds
    idempotency_key: Name
    reply_tier: str = "inline"
    pool: str = ""  # only for work that any pool can do
    priority: Priority = 1


class GetStatus(Request):
    """A snapshot of the whole daemon."""


class Stop(Request):
    """Drain and stop the daemon."""


class Cancel(Message):
    """Give up the request `id`; its reply still comes."""

    id: RequestId


class Acknowledge(Message):
    """These arena slots have been copied out and may be used again: (arena, offset, generation)."""

    slots: tuple[tuple[Size, Size, Size], ...]


class Demoted(Message):
    """The client found a transport tier unfit and uses a lesser one."""

    tier: str
    to: str
    reason: Annotated[str, msgspec.Meta(max_length=500)]


class Pong(Request):
    """Reply to `Ping`."""


class Registered(Request):
    """Reply to `RegisterWorkflow`: the models are loaded. role → model key."""

    models: dict[str, str]
    loaded_now: tuple[str, ...] = ()  # roles that were not in memory before


class Released(Request):
    """Reply to `ReleaseWorkflow`."""


class RunDone(Request):
    """Reply to `Run`. `notes`: what was done otherwise than asked, for the person at the screen."""

    result: AnyResult
    notes: tuple[str, ...] = ()
    cache_hit: bool = False
    compute_ms: float = 0.0


class StatusReply(Request):
    """Reply to `GetStatus`; the fields of the snapshot are listed in luna_daemon/monitoring/status.py."""

    status: dict[str, Any]


class Stopping(Request):
    """Reply to `Stop`."""


class Failure(Request):
    """Reply to any request that failed, and to a hello that was refused (id 0)."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False
    retry_after_s: float = 0.0


class Progress(Message):
    """Event: `done` of `total` steps of the request `id`."""

    id: RequestId
    done: int
    total: int


class Notice(Message):
    """Event: something the person at the screen should know about the request `id`."""

    id: RequestId
    text: str


class OfferArena(Message):
    """Event: an arena to map. A memfd comes with the frame's first byte; else `name` says which.

    `writer`: "client" for the arena that the client fills, "daemon" for one that it reads.
    """

    arena: Size
    nbytes: Size
    backing: str  # memfd | named
    writer: str
    name: str = ""


class DropArena(Message):
    """Event: nobody uses this arena any more; unmap it."""

    arena: Size


ToDaemon = (
    Hello | Proof | Ping | RegisterWorkflow | ReleaseWorkflow | Run | GetStatus | Stop
    | Cancel | Acknowledge | Demoted
)  # fmt: skip
ToClient = (
    Challenge | Welcome | Pong | Registered | Released | RunDone | StatusReply | Stopping
    | Failure | Progress | Notice | OfferArena | DropArena
)  # fmt: skip
