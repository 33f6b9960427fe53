"""Text encoders in the daemon, which every node takes for ComfyUI's own.

Everything around the encoders is ComfyUI's code, run here: tokenizers, clip skip, schedules, hooks. Only
the methods that need weights go to the daemon. Where a node replaced one of them, ComfyUI's own code calls
it here, and only what lies below it is remote.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import comfy.model_management
import comfy.sd
import comfy.sd1_clip
import torch

from .errors import CannotPickleError, EditNotSharedError
from .foreign_code import CLASS_PATCHES
from .moving import to_device
from .patcher import SkeletonPatcher
from .remote_weights import replace_weights
from .saving import fetch, fetch_state_dict
from .skeleton import Skeleton
from .stubs import Stub, copied_module, give_own_class, remote_method, weight_methods
from .tamper import Edit

METHODS = ("encode_token_weights", "encode", "generate", "forward")
# The options that a text encoder carries; they travel with each call.
STATE = (
    "layer",
    "layer_idx",
    "return_projected_pooled",
    "enable_attention_masks",
    "zero_out_masked",
    "layer_norm_hidden_state",
    "return_attention_masks",
)
# Which replaced methods of the same encoder ComfyUI's own code would come to, from each method.
_CALLS = {
    "encode_token_weights": {"encode", "forward", "process_tokens", "gen_empty_tokens"},
    "encode": {"forward", "process_tokens"},
    "forward": {"process_tokens"},
    "generate": {"process_tokens"},
}
_REPLACEABLE = set(METHODS).union(*_CALLS.values())
# Run in this process whatever they are.
_HERE_ANYWAY = {"cpu", "cuda", "load_sd", "reset_clip_options", "set_clip_options", "to"}
_CALL_HOOKS = {
    "_forward_hooks",
    "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
}
Place = tuple[str, str]  # an encoder's path and a method or child


class TextEncoderTree:
    """The module tree of a CLIP: which parts of it are called in the daemon."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        root = skeleton.root
        self.encoders = {
            path: module
            for path, module in root.named_modules()
            if not path or isinstance(module, comfy.sd1_clip.SDClipModel)
        }
        self.paths = {module: path for path, module in self.encoders.items()}
        self.tables: dict[Place, tuple[str, torch.nn.Module]] = {}

    def prepare(self) -> None:
        """Put the stubs in, and take a picture of the result."""
        replace_weights(self.skeleton.root, self.skeleton)
        for path, module in self.encoders.items():
            self._stub_encoder(path, module)
        self.skeleton.take_picture(self._is_free, noticed=frozenset({"gen_empty_tokens"}))

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the options of every encoder."""
        return {
            path: {name: getattr(module, name) for name in STATE if hasattr(module, name)}
            for path, module in self.encoders.items()
            if isinstance(module, comfy.sd1_clip.SDClipModel)
        }

    def _stub_encoder(self, path: str, module: torch.nn.Module) -> None:
        base = type(module)
        members: dict[str, Stub] = weight_methods(base)
        for method in METHODS:
            if _has(base, method):
                members[method] = remote_method(base, method, partial(self._decide, method))
        if not path:
            members["__deepcopy__"] = copied_module
        give_own_class(module, self.skeleton, members)
        transformer = getattr(module, "transformer", None)
        if isinstance(module, comfy.sd1_clip.SDClipModel) and transformer is not None:
            self._stub_transformer(path, transformer)

    def _stub_transformer(self, path: str, transformer: torch.nn.Module) -> None:
        base = type(transformer)
        decide = partial(self._decide_transformer, path)
        members = {**weight_methods(base), "forward": remote_method(base, "forward", decide)}
        give_own_class(transformer, self.skeleton, members)
        table: torch.nn.Module = transformer.get_input_embeddings()  # type: ignore[operator]
        place = next(p for p, m in self.skeleton.root.named_modules() if m is table)
        parent, _, name = place.rpartition(".")
        self.tables[parent, name] = (path, table)
        of_table = type(table)

        def look_up(self_: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not self.skeleton.is_local:
                self._fetch_table(place, self_)
            return of_table.forward(self_, *args, **kwargs)

        give_own_class(table, self.skeleton, {"forward": look_up})

    def _fetch_table(self, place: str, table: torch.nn.Module) -> None:
        """Get the values of a token table, for a node that puts its own code around it."""
        name = f"{place}.weight"
        skeleton = self.skeleton
        patched = skeleton.last.patches if skeleton.last else {}
        if name in patched or name in skeleton.hook_patches:
            raise EditNotSharedError(
                f"A node put its own code around the token table of {skeleton.title} while a LoRA "
                "changes that table."
            )
        if name not in skeleton.fetched:
            skeleton.fetched.update(fetch(skeleton, [name]))
            table._parameters["weight"] = torch.nn.Parameter(
                skeleton.fetched[name], requires_grad=False
            )
            assert skeleton.snapshot is not None
            skeleton.snapshot.renew(table)

    def _decide(self, method: str, module: torch.nn.Module) -> Callable[..., Any] | None:
        path = self.paths[module]
        if any(_is_reached(path, method, place) for place in self._replaced()):
            return None
        return self._remote(path, method, module)

    def _decide_transformer(self, path: str, module: torch.nn.Module) -> Callable[..., Any] | None:
        self._replaced()
        return self._remote(path, "transformer", module)

    def _remote(self, path: str, method: str, module: torch.nn.Module) -> Callable[..., Any]:
        patch_set = self.skeleton.patch_set()

        def call(*args: Any, **kwargs: Any) -> Any:
            result = self.skeleton.call(path, method, (args, kwargs), self.state(), patch_set)
            return to_device(result, self._device_after(method, path))

        return call

    def _device_after(self, method: str, path: str) -> torch.device:
        if method == "encode_token_weights":
            device: torch.device = comfy.model_management.intermediate_device()
            return device
        execution = getattr(self.encoders[path], "execution_device", None)
        return execution if execution is not None else self.skeleton.nominal_device

    def _replaced(self) -> set[Place]:
        """Return which methods of which encoders a node replaced, and refuse other edits."""
        places: set[Place] = set()
        others: list[Edit] = []
        for edit in self.skeleton.edits():
            table = self.tables.get((edit.path, edit.name)) if edit.is_child else None
            if table is not None:
                places.add((table[0], "process_tokens"))
            elif edit.path in self.encoders and edit.name in _REPLACEABLE:
                places.add((edit.path, edit.name))
            elif edit.path in self.encoders and edit.name in _CALL_HOOKS:
                places.add((edit.path, "forward"))
            elif not (edit.path in self.encoders and edit.name in _HERE_ANYWAY):
                others.append(edit)
        self.skeleton.refuse(others)
        return places

    def _is_free(self, path: str, name: str) -> bool:
        return path in self.encoders and (name in STATE or name == "execution_device")


class DaemonCLIP(comfy.sd.CLIP):
    """Is a comfy.sd.CLIP. Only where it would need weights does it differ."""

    def clone(self, *args: Any, **kwargs: Any) -> DaemonCLIP:
        """Return a clone with patches of its own."""
        made = super().clone(*args, **kwargs)
        made.__class__ = type(self)
        return made

    def load_model(self, *args: Any, **kwargs: Any) -> Any:
        """Let this CLIP's patches be those that the next call uses."""
        is_plain = not CLASS_PATCHES.replaced(comfy.sd.CLIP, ("load_model",))
        if not (isinstance(self.patcher, SkeletonPatcher) and is_plain):
            return super().load_model(*args, **kwargs)
        self.patcher.partially_load(self.patcher.load_device)
        return self.patcher

    def load_sd(self, sd: Any, full_model: bool = False) -> Any:
        """Refuse: the daemon has the weights of the file."""
        if isinstance(self.patcher, SkeletonPatcher):
            self.patcher.skeleton.go_local(
                EditNotSharedError(f"A node gave other weights to {self.patcher.skeleton.title}.")
            )
        return super().load_sd(sd, full_model)

    def get_sd(self) -> dict[str, torch.Tensor]:
        """Return the weights as they would now be in the model, fetched from the daemon."""
        if not isinstance(self.patcher, SkeletonPatcher):
            return super().get_sd()
        weights = fetch_state_dict(self.patcher.skeleton)
        return {**weights, **self.tokenizer.state_dict()}

    def __copy__(self) -> DaemonCLIP:
        made = type(self)(no_init=True)
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> DaemonCLIP:
        made = copy.copy(self)
        memo[id(self)] = made
        root = copied_module(self.cond_stage_model, memo)
        if isinstance(self.patcher, SkeletonPatcher):
            made.patcher = self.patcher.moved_to(root)
        else:
            made.patcher = copy.deepcopy(self.patcher, memo)
        made.cond_stage_model = made.patcher.model
        made.tokenizer_options = dict(self.tokenizer_options)
        return made

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise CannotPickleError(
            "A CLIP whose text encoders are in the daemon cannot be pickled.",
            "Save it with ComfyUI's CLIPSave node.",
        )


def adopt_clip(clip: Any, skeleton: Skeleton) -> DaemonCLIP:
    """Turn a comfy.sd.CLIP on `meta` into one whose weights the daemon holds."""
    clip.__class__ = DaemonCLIP
    clip.patcher.__class__ = SkeletonPatcher
    TextEncoderTree(skeleton).prepare()
    skeleton.adopt(clip.patcher)
    assert isinstance(clip, DaemonCLIP)
    return clip


def _has(cls: type, method: str) -> bool:
    found = getattr(cls, method, None)
    return found is not None and found is not torch.nn.Module.forward


def _is_reached(path: str, method: str, place: Place) -> bool:
    where, name = place
    if where == path:
        return name in _CALLS[method]
    is_below = not path or where.startswith(f"{path}.")
    return is_below and (name == method or name in _CALLS[method])
