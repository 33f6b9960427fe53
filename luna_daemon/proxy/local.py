"""Turns a skeleton into the real thing, in this process: for edits that only work where the weights are.

The real weights are put into the skeleton's own modules, so that every proxy, clone and edit there is
stays in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import torch

from ...utils.log import get_logger
from ..torch_settings import under
from .errors import EditNotSharedError
from .remote_weights import reference_of
from .skeleton import Loaded, Skeleton

log = get_logger("proxy")
LoadReal = Callable[[], tuple[torch.nn.Module, Any]]


def bring_here(load_real: LoadReal, skeleton: Skeleton, reason: EditNotSharedError) -> None:
    """Load a model's weights into this process, once, and let ComfyUI's own code work with them.

    Args:
        load_real: Loads the real thing with ComfyUI's own loader: its module tree and its patcher.
        skeleton: What is to have the weights.
        reason: Why.
    """
    text = f"{skeleton.title} is loaded into this process as well: {reason.message}"
    log.warning("%s", text)
    skeleton.models.note(text)
    root, patcher = load_real()
    assert skeleton.snapshot is not None
    skeleton.is_local = True
    for path, module in skeleton.snapshot.modules.items():
        _fill(module, root.get_submodule(path))
    _fill_nodes_modules(skeleton)
    for module, base in skeleton.base_classes.items():
        module.__class__ = base
    _hand_over(skeleton, patcher)
    skeleton.give_up()


def _fill(module: torch.nn.Module, source: torch.nn.Module) -> None:
    tables = ((module._parameters, source._parameters), (module._buffers, source._buffers))
    for mine, theirs in tables:
        for name, tensor in theirs.items():
            if name in mine and _has_no_values(mine[name]):
                mine[name] = tensor  # type: ignore[assignment]
    for name, value in vars(source).items():
        if isinstance(value, torch.Tensor) and _has_no_values(vars(module).get(name)):
            vars(module)[name] = value


def _fill_nodes_modules(skeleton: Skeleton) -> None:
    """Give the real weights to modules that nodes made of the skeleton's, such as object patches."""
    patches = [value for each in skeleton.patchers for value in each.object_patches.values()]
    for root in (skeleton.root, *patches):
        for module in root.modules() if isinstance(root, torch.nn.Module) else ():
            for table in (module._parameters, module._buffers):
                for key, tensor in table.items():
                    reference = reference_of(tensor) if tensor is not None else None
                    if reference is not None and reference[0] is skeleton:
                        table[key] = skeleton.real_weight(reference[1])  # type: ignore[assignment]


def _has_no_values(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and (
        reference_of(tensor) is not None or bool(tensor.is_meta)
    )


def _hand_over(skeleton: Skeleton, real: Any) -> None:
    """Make the skeleton's patchers what the real one is, and let the last loaded one load for real."""
    last, root = skeleton.last, skeleton.root
    hooks = last.patcher.current_hooks if last else None
    for patcher in list(skeleton.patchers):
        patcher.__class__ = type(real)
        patcher.load_device, patcher.offload_device = real.load_device, real.offload_device
    bookkeeping = {"current_weight_patches_uuid": None, "model_loaded_weight_memory": 0}
    vars(root).update(bookkeeping, device=real.offload_device)
    if last is None:
        return
    with under(last.settings):
        _load(last)
    if hooks is not None:
        last.patcher.patch_hooks(hooks)
    set_options: Any = getattr(root, "set_clip_options", None)
    if set_options is not None:
        set_options({"execution_device": real.load_device})


def _load(last: Loaded) -> None:
    if last.loader is not last.patcher and last.loader.patches_uuid == last.uuid:
        # One after the other as it was, since only the first of them calls its callbacks.
        comfy.model_management.load_models_gpu([last.loader])
    comfy.model_management.load_models_gpu([last.patcher])
