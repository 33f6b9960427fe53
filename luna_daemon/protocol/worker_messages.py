"""Every message between the supervisor and one of its workers, over their private channel."""

from __future__ import annotations

from typing import Literal

import msgspec

from ...utils.model_types import ModelKind
from .messages import DropArena, Failure, Message, OfferArena, Ping, Pong, Progress, Request
from .segments import Size
from .work import AnyResult, AnyWork


class ActivationUnits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model takes beside its weights, estimated: bytes per text and per pixel; 0: not known."""

    text: Size = 0
    decoded_pixel: Size = 0
    encoded_pixel: Size = 0
    cell_side_px: Size = 1  # pixels per latent cell and side


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to load. `key` identifies the weights: files, their state, precision, engine."""

    key: str
    role: str  # clip_l, clip_g, vae, …
    path: str  # resolved
    precision: (
        str  # hf: fp32 | fp16 | bf16 | file (as stored); comfy: torch's name of a type, or auto
    )
    nbytes: int  # estimated size in memory
    activation: ActivationUnits = ActivationUnits()
    kind: ModelKind | None = None  # the comfy engine: which object, of `path` and these
    more_paths: tuple[str, ...] = ()
    options: dict[str, str] = {}


class Setup(Message):
    """supervisor → worker, first: what this worker is."""

    name: str
    engine: str
    device: str  # as torch knows it inside the worker: cpu, cuda:0, mps
    conditioning_cache_bytes: int
    log_level: str
    comfyui_path: str = ""
    patch_cache_bytes: int = 0
    numerics: dict[str, str] = {}  # of the clients' ComfyUI; the comfy engine takes them over


class Ready(Message):
    """worker → supervisor: imports are done, work may come."""

    torch: str
    comfyui: str = ""


class LoadModel(Request):
    """Load a model and keep it until `UnloadModel`.

    `image`: a descriptor came with the message, for the weights that workers of a device share.
    """

    spec: ModelSpec
    image: bool = False


class Loaded(Request):
    """Reply to `LoadModel`. `nbytes`: what it really holds; `seconds`: how long it took."""

    nbytes: int
    seconds: float


class UnloadModel(Request):
    """Drop a model."""

    key: str


class Unloaded(Request):
    """Reply to `UnloadModel`."""


class MoveModel(Request):
    """Put a GPU's model to sleep in RAM, or wake it. It moves whole or not at all."""

    key: str
    place: Literal["device", "ram"]


class Moved(Request):
    """Reply to `MoveModel`. `seconds`: how long it took."""

    seconds: float


class RunJob(Request):
    """Do the work with the loaded models role → key."""

    model_type: str
    models: dict[str, str]
    work: AnyWork
    reply_arena: Size | None = None  # None: tensors of the result come inline
    inline_bytes: Size = 0  # so do those of a result that has no more bytes than this in all
    more: Size = 0  # jobs of the same group that follow at once; an engine may join them


class JobDone(Request):
    """Reply to `RunJob`."""

    result: AnyResult
    notes: tuple[str, ...] = ()
    cache_hit: bool = False
    compute_ms: float = 0.0
    arena_full: bool = False  # the result came inline because the arena had no room
    unpack_ms: float = 0.0  # copying the request's tensors
    pack_ms: float = 0.0  # copying the result's


class CancelJob(Message):
    """Stop the job `id` at the next safe point."""

    id: Size


class FreeSlots(Message):
    """The client has copied these slots of a reply arena: (arena, offset, generation)."""

    slots: tuple[tuple[Size, Size, Size], ...]


class LogLine(Message):
    """worker → supervisor: a line for the daemon's log."""

    level: int
    logger: str
    text: str
    job: Size = 0  # the request that it is about; 0: none


class GetCacheState(Request):
    """What is in the worker's caches?"""


class CacheState(Request):
    """Reply to `GetCacheState`."""

    entries: int
    nbytes: int
    hits: int
    misses: int
    patch_sets: int = 0
    patch_bytes: int = 0  # of the tensors that they are made of


ToWorker = (
    Setup | LoadModel | UnloadModel | MoveModel | RunJob | CancelJob | FreeSlots | OfferArena | DropArena
    | Ping | GetCacheState
)  # fmt: skip
FromWorker = (
    Ready | Loaded | Unloaded | Moved | JobDone | Failure | Progress | Pong | CacheState | LogLine
)  # fmt: skip
