"""VAEs in the daemon, which every node takes for ComfyUI's own.

Decoding and encoding are remote as a whole, so that tiling and running out of memory happen where the
memory is. Where a node replaced a part of that, ComfyUI's own code runs here and only the inner model's
`encode` and `decode` are remote.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, NoReturn

import comfy.sd
import torch

from .errors import CannotPickleError, EditNotSharedError
from .foreign_code import CLASS_PATCHES, refuse_replaced
from .moving import to_device
from .patcher import SkeletonPatcher
from .remote_weights import replace_weights
from .saving import fetch_state_dict
from .skeleton import Skeleton, skeleton_of
from .stubs import Stub, copied_module, give_own_class, remote_method, weight_methods
from .tamper import Edit, ObjectPicture

# These load the VAE's own patcher first; the others work with what was loaded last.
LOADING_METHODS = ("decode", "encode", "decode_tiled", "encode_tiled")
METHODS = tuple(
    name
    for name in (
        *LOADING_METHODS,
        *(f"{way}_tiled_{form}" for way in ("decode", "encode") for form in ("", "1d", "3d")),
    )
    if hasattr(comfy.sd.VAE, name)
)
INNER = "first_stage_model"
INNER_METHODS = ("encode", "decode")
_PICTURE = "_luna_picture"
_PIXELS = "pixel_samples"  # what both encodes call their first argument
# Which device does what is the daemon's affair, and the rest is bookkeeping.
_FREE = {_PICTURE, INNER, "device", "offload_device", "output_device", "patcher", "size"}
# What ComfyUI's own decoding and encoding calls.
_CALLED = tuple(
    name
    for name, member in vars(comfy.sd.VAE).items()
    if isinstance(member, FunctionType) and name not in ("__init__", "get_sd", "model_size")
)
_CALLED_FUNCTIONS = {
    "comfy.model_management": ("intermediate_dtype",),
    "comfy.utils": ("tiled_scale", "tiled_scale_multidim"),
}


class DaemonVAE(comfy.sd.VAE):
    """Is a comfy.sd.VAE. Only where it would need weights does it differ."""

    def get_sd(self) -> dict[str, torch.Tensor]:
        """Return the weights as they would now be in the model, fetched from the daemon."""
        if not isinstance(self.patcher, SkeletonPatcher):
            return super().get_sd()
        return fetch_state_dict(self.patcher.skeleton)

    def is_as_built(self) -> bool:
        """Tell whether no node has changed this object: its settings, such as its scaling, or what is in it."""
        picture: ObjectPicture = vars(self)[_PICTURE]
        return self.first_stage_model is self.patcher.model and picture.is_like(self)

    def __copy__(self) -> DaemonVAE:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> DaemonVAE:
        made = copy.copy(self)
        memo[id(self)] = made
        root = copied_module(self.first_stage_model, memo)
        if isinstance(self.patcher, SkeletonPatcher):
            made.patcher = self.patcher.moved_to(root)
        else:
            made.patcher = copy.deepcopy(self.patcher, memo)
        made.first_stage_model = made.patcher.model
        return made

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise CannotPickleError(
            "A VAE that is in the daemon cannot be pickled.", "Save it with ComfyUI's VAESave node."
        )


def _outer_method(method: str) -> Stub:
    @functools.wraps(getattr(comfy.sd.VAE, method))
    def stub(self: DaemonVAE, *args: Any, **kwargs: Any) -> Any:
        stock = getattr(super(DaemonVAE, self), method)  # another pack may have replaced it
        self.throw_exception_if_invalid()
        if not isinstance(self.patcher, SkeletonPatcher):
            return stock(*args, **kwargs)
        skeleton = self.patcher.skeleton
        if method in LOADING_METHODS:
            self.patcher.partially_load(self.patcher.load_device)
        if skeleton.is_local:  # a node's code touched a weight while this was loaded
            return stock(*args, **kwargs)
        try:
            remote = _decide(self, skeleton, method)
            if remote is not None:
                return remote(*args, **kwargs)
        except EditNotSharedError as error:
            skeleton.go_local(error)
        return stock(*args, **kwargs)

    return stub


for _method in METHODS:
    setattr(DaemonVAE, _method, _outer_method(_method))


def adopt_vae(vae: Any, skeleton: Skeleton) -> DaemonVAE:
    """Turn a comfy.sd.VAE on `meta` into one whose weights the daemon holds."""
    root = vae.first_stage_model
    base = type(root)
    replace_weights(root, skeleton)
    members = {**weight_methods(base), "__deepcopy__": copied_module}
    for method in INNER_METHODS:
        if hasattr(base, method):
            members[method] = remote_method(base, method, partial(_decide_inner, method))
    give_own_class(root, skeleton, members)
    skeleton.take_picture(lambda path, name: False)
    vae.__class__ = DaemonVAE
    vae.patcher.__class__ = SkeletonPatcher
    skeleton.adopt(vae.patcher)
    vars(vae)[_PICTURE] = ObjectPicture(vae, _is_free)
    assert isinstance(vae, DaemonVAE)
    return vae


def _decide(vae: DaemonVAE, skeleton: Skeleton, method: str) -> Callable[..., Any] | None:
    refuse_replaced(
        skeleton.title,
        CLASS_PATCHES.replaced(comfy.sd.VAE, _CALLED)
        or CLASS_PATCHES.replaced_function(_CALLED_FUNCTIONS),
    )
    if _replaced(skeleton) or not vae.is_as_built():
        return None
    patch_set = skeleton.patch_set()

    def call(*args: Any, **kwargs: Any) -> Any:
        if method in ("encode", "encode_tiled"):
            args = tuple(map(_dense_pixels, args[:1])) + args[1:]
            kwargs.update({k: _dense_pixels(v) for k, v in kwargs.items() if k == _PIXELS})
        result = skeleton.call("", method, (args, kwargs), None, patch_set)
        return to_device(result, vae.output_device)

    return call


def _decide_inner(method: str, root: torch.nn.Module) -> Callable[..., Any] | None:
    skeleton = skeleton_of(root)
    _replaced(skeleton)
    patch_set = skeleton.patch_set()

    def call(*args: Any, output_buffer: torch.Tensor | None = None, **kwargs: Any) -> Any:
        kwargs.pop("device", None)  # ours; the daemon has its own
        result = skeleton.call(INNER, method, (args, kwargs), None, patch_set)
        result = to_device(result, args[0].device)
        return result if output_buffer is None else output_buffer.copy_(result)

    return call


def _replaced(skeleton: Skeleton) -> bool:
    """Tell whether a node replaced the inner model's `encode` or `decode`, and refuse other edits."""
    edits = skeleton.edits()
    others: list[Edit] = [e for e in edits if e.path or e.name not in INNER_METHODS]
    skeleton.refuse(others)
    return bool(edits)


def _dense_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Return images whose memory has no holes, laid out as ComfyUI's next step would lay them out.

    It moves the channels to the front and computes; what comes of a view with holes or repeats has the
    layout that torch derives from that form.
    """
    return pixels.movedim(-1, 1).clone().movedim(1, -1)


def _is_free(name: str) -> bool:
    return name in _FREE or name.startswith("_select_base")
