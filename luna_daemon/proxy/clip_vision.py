"""CLIP vision models in the daemon, which every node takes for ComfyUI's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NoReturn

import comfy.clip_vision
import comfy.model_management
import torch

from .errors import CannotPickleError, EditNotSharedError
from .foreign_code import CLASS_PATCHES, refuse_replaced
from .moving import to_device
from .patcher import SkeletonPatcher
from .remote_weights import replace_weights
from .saving import fetch_state_dict
from .skeleton import Skeleton, skeleton_of
from .stubs import copied_module, give_own_class, remote_method, weight_methods
from .tamper import ObjectPicture

_PICTURE = "_luna_picture"
# Which device does what is the daemon's affair.
_FREE = {_PICTURE, "load_device", "model", "patcher"}
_PREPARING = {
    "comfy.clip_vision": ("clip_preprocess",)
}  # where it is used, differs between releases


class DaemonClipVision(comfy.clip_vision.ClipVisionModel):
    """Is a comfy.clip_vision.ClipVisionModel. Only where it would need weights does it differ."""

    def encode_image(self, image: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return what the model sees in images [B, H, W, 3] in 0..1."""
        if not isinstance(self.patcher, SkeletonPatcher):
            return super().encode_image(image, *args, **kwargs)
        skeleton = self.patcher.skeleton
        self.patcher.partially_load(self.patcher.load_device)
        try:
            if not self._is_changed(skeleton):
                arguments = ((image, *args), kwargs)
                found = skeleton.call("", "encode_image", arguments, None, skeleton.patch_set())
                return _output(to_device(found, comfy.model_management.intermediate_device()))
        except EditNotSharedError as error:
            skeleton.go_local(error)
        return super().encode_image(image, *args, **kwargs)

    def _is_changed(self, skeleton: Skeleton) -> bool:
        """Tell whether a node changed this object or replaced the model in it; refuse other edits."""
        refuse_replaced(
            skeleton.title,
            CLASS_PATCHES.replaced(comfy.clip_vision.ClipVisionModel, ("encode_image",))
            or CLASS_PATCHES.replaced_function(_PREPARING),
        )
        edits = skeleton.edits()
        skeleton.refuse([edit for edit in edits if edit.path or edit.name != "forward"])
        picture: ObjectPicture = vars(self)[_PICTURE]
        return bool(edits) or self.model is not skeleton.root or not picture.is_like(self)

    def get_sd(self) -> dict[str, torch.Tensor]:
        """Return the weights, fetched from the daemon."""
        if not isinstance(self.patcher, SkeletonPatcher):
            return super().get_sd()
        return fetch_state_dict(self.patcher.skeleton)

    def __copy__(self) -> DaemonClipVision:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> DaemonClipVision:
        made = copy.copy(self)
        memo[id(self)] = made
        root = copied_module(self.model, memo)
        if isinstance(self.patcher, SkeletonPatcher):
            made.patcher = self.patcher.moved_to(root)
        else:
            made.patcher = copy.deepcopy(self.patcher, memo)
        made.model = made.patcher.model
        return made

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise CannotPickleError("A CLIP vision model that is in the daemon cannot be pickled.")


def adopt_clip_vision(model: Any, skeleton: Skeleton) -> DaemonClipVision:
    """Turn a CLIP vision model on `meta` into one whose weights the daemon holds."""
    root = model.model
    base = type(root)
    replace_weights(root, skeleton)
    members = {
        **weight_methods(base),
        "__deepcopy__": copied_module,
        "forward": remote_method(base, "forward", _decide),
    }
    give_own_class(root, skeleton, members)
    skeleton.take_picture(lambda path, name: False)
    model.__class__ = DaemonClipVision
    model.patcher.__class__ = SkeletonPatcher
    skeleton.adopt(model.patcher)
    vars(model)[_PICTURE] = ObjectPicture(model, _FREE.__contains__)
    assert isinstance(model, DaemonClipVision)
    return model


def _decide(root: torch.nn.Module) -> Callable[..., Any] | None:
    skeleton = skeleton_of(root)
    skeleton.refuse([edit for edit in skeleton.edits() if edit.path or edit.name != "forward"])
    patch_set = skeleton.patch_set()

    def call(*args: Any, **kwargs: Any) -> Any:
        given = next((v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)), None)
        result = skeleton.call("", "model", (args, kwargs), None, patch_set)
        return to_device(result, given.device if given is not None else skeleton.nominal_device)

    return call


def _output(found: dict[str, Any]) -> Any:
    output = comfy.clip_vision.Output()
    for name, value in found.items():
        output[name] = value
    if "image_sizes" in found:  # older releases do not say them
        output["image_sizes"] = [torch.Size(size) for size in found["image_sizes"]]
    return output
