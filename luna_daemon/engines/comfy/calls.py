"""Calling a method of a ComfyUI object, as ComfyUI's own code around it would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import comfy.clip_vision
import comfy.model_management
import comfy.sd1_clip
import torch

from ...errors import BadRequestError
from ...protocol.work import NOTHING, CallModel
from ...transport.trees import load_tree
from .loading import ComfyModel

TEXT_METHODS = ("encode_token_weights", "encode", "generate", "forward", "transformer")
VAE_METHODS = (
    "decode",
    "encode",
    "decode_tiled",
    "encode_tiled",
    "decode_tiled_",
    "decode_tiled_1d",
    "decode_tiled_3d",
    "encode_tiled_",
    "encode_tiled_1d",
    "encode_tiled_3d",
)
INNER_VAE = "first_stage_model"
INNER_VAE_METHODS = ("decode", "encode")
VISION_METHODS = ("encode_image", "model")
# Options that a text encoder carries, and which decide about what it gives.
STATE = (
    "layer",
    "layer_idx",
    "return_projected_pooled",
    "enable_attention_masks",
    "zero_out_masked",
    "layer_norm_hidden_state",
    "return_attention_masks",
)


class Arguments(NamedTuple):
    """What a method is called with."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


State = Mapping[str, Mapping[str, Any]]  # module path → attribute → value


def read_arguments(work: CallModel, tensors: Sequence[torch.Tensor]) -> Arguments:
    """Return what a call's method is called with.

    Raises:
        BadRequestError: It is no pair of positional and named arguments.
    """
    value = load_tree(work.arguments, tensors)
    if value is None:
        return Arguments((), {})
    pair = isinstance(value, tuple) and len(value) == 2
    if not pair or not isinstance(value[0], tuple) or not isinstance(value[1], dict):
        raise BadRequestError("The arguments of a call must be positional and named ones.")
    if not all(isinstance(name, str) for name in value[1]):
        raise BadRequestError("The names of a call's arguments must be texts.")
    return Arguments(*value)


def read_state(work: CallModel) -> State:
    """Return the options that a call's model is to carry.

    Raises:
        BadRequestError: There is something else in it.
    """
    if bytes(work.state) == bytes(NOTHING):
        return {}
    value = load_tree(work.state, ())
    fits = isinstance(value, dict) and all(
        isinstance(path, str) and isinstance(options, dict) for path, options in value.items()
    )
    if not fits:
        raise BadRequestError("The state of a call must say options by module.")
    unknown = sorted({str(name) for options in value.values() for name in options} - set(STATE))
    if unknown:
        raise BadRequestError(f"A text encoder has no option '{unknown[0][:40]}'.")
    state: State = value
    return state


def call_method(
    model: ComfyModel, patcher: Any, work: CallModel, arguments: Arguments, state: State
) -> Any:
    """Call the method with the patcher's weights, and return what it returns.

    Raises:
        BadRequestError: This kind of object has no such method or module for others to call.
    """
    run: Callable[[ComfyModel, Any, CallModel, Arguments, State], Any]
    run = {"clip": _call_clip, "vae": _call_vae, "clip_vision": _call_clip_vision}[model.kind]
    return run(model, patcher, work, arguments, state)


def _call_clip(
    model: ComfyModel, patcher: Any, work: CallModel, arguments: Arguments, state: State
) -> Any:
    root = model.object.cond_stage_model
    module = _text_module(root, work.module)
    if work.method not in TEXT_METHODS:
        raise _no_method(work)
    function = module if work.method == "forward" else getattr(module, work.method, None)
    if function is None:
        raise _no_method(work)
    if work.method in ("transformer", "forward"):
        arguments = _moved(arguments, patcher.load_device)
    memory = _memory_for_text(root, work, arguments, patcher.load_device)
    comfy.model_management.load_models_gpu([patcher], memory_required=memory)
    with _carrying(root, state, patcher.load_device), _device_context(patcher.load_device):
        return function(*arguments.positional, **arguments.named)


def _call_vae(
    model: ComfyModel, patcher: Any, work: CallModel, arguments: Arguments, state: State
) -> Any:
    vae = model.object
    if work.module == INNER_VAE and work.method in INNER_VAE_METHODS:
        comfy.model_management.load_models_gpu([patcher])
        inner = _moved(arguments, vae.device)
        with _device_context(vae.device):
            return getattr(vae.first_stage_model, work.method)(*inner.positional, **inner.named)
    if work.module or work.method not in VAE_METHODS or not hasattr(vae, work.method):
        raise _no_method(work)
    if work.method.endswith("_") or work.method.endswith("d_1d") or work.method.endswith("d_3d"):
        comfy.model_management.load_models_gpu([patcher])  # these leave it to their caller
    vae.patcher = patcher
    try:
        return getattr(vae, work.method)(*arguments.positional, **arguments.named)
    finally:
        vae.patcher = model.base


def _call_clip_vision(
    model: ComfyModel, patcher: Any, work: CallModel, arguments: Arguments, state: State
) -> Any:
    vision = model.object
    if work.module or work.method not in VISION_METHODS:
        raise _no_method(work)
    if work.method == "model":
        comfy.model_management.load_models_gpu([patcher])
        inner = _moved(arguments, vision.load_device)
        return vision.model(*inner.positional, **inner.named)
    vision.patcher = patcher
    try:
        result = vision.encode_image(*arguments.positional, **arguments.named)
    finally:
        vision.patcher = model.base
    return dict(vars(result)) if isinstance(result, comfy.clip_vision.Output) else result


def _no_method(work: CallModel) -> BadRequestError:
    what = f"'{work.module}' of a {work.kind}" if work.module else f"A {work.kind}"
    return BadRequestError(f"{what} has no method '{work.method}' that can be called from outside.")


def _text_module(root: Any, path: str) -> Any:
    if not path:
        return root
    try:
        module = root.get_submodule(path)
    except AttributeError:
        module = None
    if not isinstance(module, comfy.sd1_clip.SDClipModel):
        raise BadRequestError(f"The text encoder has no part '{path}'.")
    return module


def _memory_for_text(root: Any, work: CallModel, arguments: Arguments, device: Any) -> float:
    """Estimate the memory of an encode, where ComfyUI has an estimate for the encoder."""
    estimate = getattr(root, "memory_estimation_function", None)
    tokens = arguments.positional[0] if arguments.positional else None
    if estimate is None or work.module or not isinstance(tokens, dict):
        return 0.0
    return float(estimate(tokens, device=device))


@contextmanager
def _carrying(root: Any, state: State, device: Any) -> Iterator[None]:
    """Let the encoders carry these options as long as this lasts."""
    before = [
        (module, name, getattr(module, name))
        for module in root.modules()
        if isinstance(module, comfy.sd1_clip.SDClipModel)
        for name in (*STATE, "execution_device")
        if hasattr(module, name)
    ]
    root.reset_clip_options()
    root.set_clip_options({"execution_device": device})
    try:
        for path, options in state.items():
            module = _text_module(root, path)
            for name, value in options.items():
                setattr(module, name, value)
        yield
    finally:
        root.reset_clip_options()
        for module, name, value in before:
            setattr(module, name, value)


def _device_context(device: Any) -> AbstractContextManager[Any]:
    context = getattr(comfy.model_management, "cuda_device_context", None)  # since 0.24
    found: AbstractContextManager[Any] = nullcontext() if context is None else context(device)
    return found


def _moved(arguments: Arguments, device: Any) -> Arguments:
    return Arguments(_to(arguments.positional, device), _to(arguments.named, device))


def _to(value: Any, device: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return type(value)(_to(item, device) for item in value)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    return value
