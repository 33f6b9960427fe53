"""What can be asked of a model, and what comes back. The same structs travel client → daemon → worker.

Tensor fields are indexes into the segments of the message that carries them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from ...utils.model_types import POOL_OF_KIND, ModelKind
from .names import wire_name
from .segments import TensorRef

Positive = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
NotNegative = Annotated[int, msgspec.Meta(ge=0, le=2**20)]
Text = Annotated[str, msgspec.Meta(max_length=200_000)]
Role = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Short = Annotated[str, msgspec.Meta(max_length=64)]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
NOTHING = msgspec.Raw(b"null")


class Tiling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Work tile by tile. Sizes are in pixels of the image, also when a latent is decoded."""

    tile: Annotated[int, msgspec.Meta(ge=64, le=8192)] = 512
    overlap: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 64


class Work(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="op",
    tag=wire_name,
):
    """One call of a model. Every kind has a `pool`: the workers that may serve it."""


class EncodeText(Work):
    """Texts → conditioning, by all text encoders of the workflow's model set.

    `clip_skip`: layers left out at the end, counted from the model family's own default (0 = default).
    """

    texts: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=256)]
    clip_skip: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0

    @property
    def pool(self) -> str:
        """Text encoders."""
        return "clip"


class DecodeLatent(Work):
    """Latents [B, C, h, w] in the VAE's own space → images [B, H, W, 3], float32, 0..1."""

    latent: TensorRef
    tiling: Tiling | None = None  # None: whole, and tiled only when memory runs out

    @property
    def pool(self) -> str:
        """VAEs."""
        return "vae"


class EncodeImage(Work):
    """Images [B, H, W, 3] in 0..1 → latents [B, C, h, w] in the VAE's own space (the mode)."""

    image: TensorRef
    tiling: Tiling | None = None

    @property
    def pool(self) -> str:
        """VAEs."""
        return "vae"


class Echo(Work):
    """Send a tensor through the production path and back: the canary of a transport tier."""

    tensor: TensorRef

    @property
    def pool(self) -> str:
        """Any; the request says which."""
        return "any"


class Recipe(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A patch set: what is done to a model's weights before a call, by content.

    `digest` names it; `stages` says what it is (NOTHING: the worker has it already); `blobs` are tensors
    that it is made of and that come with this call: digest of the content → tensor.
    """

    digest: Digest
    stages: msgspec.Raw = NOTHING
    blobs: dict[Digest, TensorRef] = {}


class CallModel(Work):
    """Call a method of a model as ComfyUI's own code would.

    `module`: dotted path of a part inside the model, "" for the whole. `method`: one of those that the
    engine allows. `state`: options that the model carries, part by part. `arguments`: positional and
    named ones. Both are trees of transport/trees.py. `also`: roles of further models of the workflow
    whose weights the recipe refers to. `settings`: those of torch that are in force where the call comes
    from (luna_daemon/torch_settings.py). `random`: states of its random numbers, by kind of device, for
    a method that draws some.
    """

    kind: ModelKind
    role: Role
    method: Annotated[str, msgspec.Meta(max_length=64)]
    module: Annotated[str, msgspec.Meta(max_length=200)] = ""
    state: msgspec.Raw = NOTHING
    arguments: msgspec.Raw = NOTHING
    recipe: Recipe | None = None
    also: Annotated[tuple[Role, ...], msgspec.Meta(max_length=16)] = ()
    settings: Annotated[dict[Short, Short], msgspec.Meta(max_length=64)] = {}
    random: Annotated[dict[Short, TensorRef], msgspec.Meta(max_length=4)] = {}

    @property
    def pool(self) -> str:
        """That of the model's kind."""
        return POOL_OF_KIND[self.kind]


class FetchWeights(Work):
    """Weights of a model by name, with its patch set applied where there is one.

    Names are those of the model's state dict. Few enough at a time that they fit into a message.
    """

    kind: ModelKind
    role: Role
    names: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=4096)]
    recipe: Recipe | None = None
    also: Annotated[tuple[Role, ...], msgspec.Meta(max_length=16)] = ()

    @property
    def pool(self) -> str:
        """That of the model's kind."""
        return POOL_OF_KIND[self.kind]


AnyWork = EncodeText | DecodeLatent | EncodeImage | Echo | CallModel | FetchWeights


class Result(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag=wire_name,
):
    """What a call of a model gave."""


class Conditioning(Result):
    """`cond` [N, tokens, width] float32; `pooled` [N, width] float32, where the encoders have it."""

    cond: TensorRef
    pooled: TensorRef | None = None


class Images(Result):
    """`images` [B, H, W, 3] float32, 0..1."""

    images: TensorRef


class Latents(Result):
    """`latents` [B, C, h, w] float32, in the VAE's own space."""

    latents: TensorRef


class Echoed(Result):
    """The tensor of an `Echo`, bit for bit."""

    tensor: TensorRef


class Returned(Result):
    """What the method returned: a tree of transport/trees.py.

    `random`: the states of the random numbers after it, where it drew some.
    """

    value: msgspec.Raw
    random: Annotated[dict[Short, TensorRef], msgspec.Meta(max_length=4)] = {}


class Weights(Result):
    """Weights in the order of the names asked for."""

    tensors: tuple[TensorRef, ...]


class Needed(Result):
    """Nothing was done: the worker lacks something. Send it along with the same call.

    `recipe`: the recipe's stages. `blobs`: tensors that it is made of. `random`: the states of random numbers.
    """

    recipe: bool = False
    blobs: tuple[Digest, ...] = ()
    random: bool = False


AnyResult = Conditioning | Images | Latents | Echoed | Returned | Weights | Needed
