"""From a model folder to a module on the device, or an error: never to random weights.

The module is built from its configuration on `meta`, the names and shapes in the file's header are
compared with its own, and then every weight is read. The libraries' `from_pretrained` is not used: it
replaces missing weights by random ones and only logs that.

Weights are copied out of the file, not mapped: what a matrix-vector product rounds to depends on whether
a weight's address is a multiple of 16, and tensors in a file start at multiples of 8. A file that is
written again while its model is loaded also changes nothing. Worker processes of one device share the
copy where the system can (weight_image.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open

from ....utils.model_types import VAE_ROLE
from ...errors import BadRequestError, NotFoundError
from ...protocol.worker_messages import ModelSpec
from ..oom import attempt, free_cached_memory, out_of_memory
from .files import Checkpoint, open_checkpoint, read_json, shown

# What a library raises for a configuration that makes no sense.
CONFIG_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
_PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_STORED = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_OLD_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True, slots=True)
class Architecture:
    """How to build and fill one class of models.

    Attributes:
        name: The class, as a configuration names it.
        weights: The file name of its weights.
        build: Makes the module from the content of its config.json.
        canonical: Maps a weight's name, of the file or of the module, to one that both share.
    """

    name: str
    weights: str
    build: Callable[[dict[str, Any]], torch.nn.Module]
    canonical: Callable[[str], str]


def _without_prefix(name: str) -> str:
    # transformers 5 calls CLIPTextModel's weights "encoder.…", older files "text_model.encoder.…".
    return name.removeprefix("text_model.")


def _current_attention_name(name: str) -> str:
    # Until 2023 diffusers called the projections of a VAE's attention otherwise.
    parts = name.split(".")
    if "attentions" in parts[:-2] and parts[-2] in _OLD_ATTENTION_NAMES:
        parts[-2] = _OLD_ATTENTION_NAMES[parts[-2]]
    return ".".join(parts)


def _text_architecture(kind: type[Any]) -> Architecture:
    def build(config: dict[str, Any]) -> torch.nn.Module:
        # Without the private keys: one of them can name code to fetch for the attention.
        known = {key: value for key, value in config.items() if not key.startswith(("_", "attn_"))}
        module: torch.nn.Module = kind(transformers.CLIPTextConfig.from_dict(known))
        return module

    return Architecture(kind.__name__, "model.safetensors", build, _without_prefix)


def _build_vae(config: dict[str, Any]) -> torch.nn.Module:
    module: torch.nn.Module = diffusers.AutoencoderKL.from_config(config)
    return module


ARCHITECTURES: Mapping[str, Architecture] = {
    "clip_l": _text_architecture(transformers.CLIPTextModel),
    "clip_g": _text_architecture(transformers.CLIPTextModelWithProjection),
    VAE_ROLE: Architecture(
        "AutoencoderKL",
        "diffusion_pytorch_model.safetensors",
        _build_vae,
        _current_attention_name,
    ),
}


def load_module(spec: ModelSpec, device: str, image: int | None = None) -> Any:
    """Load the model of a folder, ready to run; `image`: where to share its weights.

    Raises:
        BadRequestError: A file is damaged, of another kind, or its weights are not the model's.
        NotFoundError: A file is missing.
        OutOfMemoryError: The device has no room for it; nothing of it is kept.
    """
    folder, architecture = Path(spec.path), _find_architecture(spec)
    config = _read_config(folder, architecture, spec.role)
    checkpoint = open_checkpoint(folder, architecture.weights)
    with quiet_libraries():
        module = _build(folder, architecture, config)
    names = _match_names(checkpoint, module, architecture)
    dtype = _choose_dtype(spec.precision, checkpoint, names)
    source = _Source(checkpoint, names, dtype)
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    weights = attempt(lambda: _own_weights(source, shapes, device, image))
    if weights is None:
        free_cached_memory(device)
        raise out_of_memory(f"Loading '{shown(folder, 2)}'", device)
    module.load_state_dict(weights, strict=True, assign=True)
    _fill_position_ids(module, device)
    return module.eval().requires_grad_(False)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep transformers and diffusers from writing warnings to the terminal."""
    loggers = (transformers.utils.logging, diffusers.utils.logging)
    before = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.set_verbosity(level)


def _find_architecture(spec: ModelSpec) -> Architecture:
    if spec.role not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise BadRequestError(f"The hf engine has no models for '{spec.role}'; it knows {known}.")
    return ARCHITECTURES[spec.role]


def _read_config(folder: Path, architecture: Architecture, role: str) -> dict[str, Any]:
    if not folder.is_dir():
        if folder.exists():
            raise BadRequestError(
                f"'{shown(folder, 2)}' is a single file, which the hf engine cannot load.",
                "Choose a model folder in diffusers' layout, such as REPO/text_encoder or REPO/vae.",
            )
        raise NotFoundError(f"There is no folder '{shown(folder, 2)}'.", "Check the model's name.")
    config = read_json(folder / "config.json")
    listed = config.get("architectures") or [config.get("_class_name", "(none)")]
    found = str(listed[0] if isinstance(listed, list) else listed)
    if found != architecture.name:
        raise BadRequestError(
            f"'{shown(folder, 2)}' is of the class {found[:80]}, but {role} has to be of the class "
            f"{architecture.name}.",
            f"Choose another folder for {role}.",
        )
    return config


def _build(folder: Path, architecture: Architecture, config: dict[str, Any]) -> torch.nn.Module:
    try:
        with torch.device("meta"):
            return architecture.build(config)
    except CONFIG_ERRORS as error:
        reason = " ".join(str(error).split())[:200]
        raise BadRequestError(
            f"'{shown(folder / 'config.json')}' does not describe the class {architecture.name}: {reason}.",
            "Download it again.",
        ) from error


def _match_names(
    checkpoint: Checkpoint, module: torch.nn.Module, architecture: Architecture
) -> dict[str, str]:
    """Return the module's weight name → the file's, or say what does not fit."""
    stored: dict[str, str] = {}
    for name in checkpoint.tensors:
        if not name.endswith("position_ids"):  # a buffer that old CLIP files hold; it is 0, 1, 2, …
            canonical = architecture.canonical(name)
            if canonical in stored:
                raise BadRequestError(f"'{checkpoint.name}' holds '{canonical}' under two names.")
            stored[canonical] = name
    wanted = {architecture.canonical(name): name for name in module.state_dict()}
    _refuse_if_any(
        checkpoint,
        "lacks {} that config.json asks for",
        sorted(wanted.keys() - stored.keys()),
    )
    _refuse_if_any(
        checkpoint,
        "holds {} that config.json does not ask for",
        sorted(stored.keys() - wanted.keys()),
    )
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    names = {wanted[canonical]: stored[canonical] for canonical in wanted}
    wrong = sorted(n for n, s in names.items() if checkpoint.tensors[s].shape != shapes[n])
    _refuse_if_any(checkpoint, "holds {} of another shape than config.json asks for", wrong)
    return names


def _refuse_if_any(checkpoint: Checkpoint, what: str, names: list[str]) -> None:
    if names:
        count = f"{len(names)} weight{'s' if names[1:] else ''}"
        first = ", ".join(f"'{name[:80]}'" for name in names[:3])
        raise BadRequestError(
            f"'{checkpoint.name}' {what.format(count)}: {first}{', …' if names[3:] else ''}.",
            "The file is not the one that belongs to this folder. Download the folder again.",
        )


def _choose_dtype(precision: str, checkpoint: Checkpoint, names: Mapping[str, str]) -> torch.dtype:
    stored = {checkpoint.tensors[name].dtype for name in names.values()}
    unknown = sorted(stored - _STORED.keys())
    if unknown:
        raise BadRequestError(
            f"'{checkpoint.name}' holds weights of the type {unknown[0]}, which the hf engine cannot use.",
            f"Choose a file of {', '.join(_STORED)}.",
        )
    if precision in _PRECISIONS:
        return _PRECISIONS[precision]
    if precision != "file":
        known = ", ".join(_PRECISIONS)
        raise BadRequestError(f"There is no precision '{precision}'; choose {known} or file.")
    dtype = _STORED[stored.pop()]
    for name in stored:  # a file of several types: the one that holds them all
        dtype = torch.promote_types(dtype, _STORED[name])
    return dtype


@dataclass(frozen=True, slots=True)
class _Source:
    """Where weights come from: `names` is the module's name → the file's."""

    checkpoint: Checkpoint
    names: Mapping[str, str]
    dtype: torch.dtype


def _own_weights(
    source: _Source, shapes: Mapping[str, torch.Size], device: str, image: int | None
) -> dict[str, torch.Tensor]:
    if image is not None:
        from ..weight_image import shared_weights  # a system without memfd cannot import it

        wanted = {name: shapes[name] for name in source.names}
        return shared_weights(image, wanted, source.dtype, lambda own: _copy_weights(source, own))
    weights = {
        name: torch.empty(shapes[name], dtype=source.dtype, device=device) for name in source.names
    }
    _copy_weights(source, weights)
    return weights


def _copy_weights(source: _Source, targets: Mapping[str, torch.Tensor]) -> None:
    files = source.checkpoint.files
    for path in sorted(set(files.values())):
        try:
            with safe_open(str(path), framework="pt", device="cpu") as file:
                for name, stored in source.names.items():
                    if files[stored] == path:
                        targets[name].copy_(file.get_tensor(stored))
        except (SafetensorError, OSError) as error:
            raise BadRequestError(
                f"'{shown(path)}' cannot be read.", "Check the disk, or download the file again."
            ) from error


def _fill_position_ids(module: torch.nn.Module, device: str) -> None:
    for name, buffer in module.named_buffers():
        if buffer.is_meta:
            owner, _, attribute = name.rpartition(".")
            assert attribute == "position_ids", f"nothing fills the buffer {name}"
            ids = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
            setattr(module.get_submodule(owner), attribute, ids)
