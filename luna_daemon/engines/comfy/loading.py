"""From files to an object of ComfyUI, by ComfyUI's own loaders, with weights assigned from the files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from safetensors import SafetensorError

from ....utils.errors import ModelFileError
from ....utils.model_types import ModelKind
from ...encoders_inside import read_encoders
from ...errors import BadRequestError, NotFoundError
from ...gguf_models.assigning import assigned_weights, finish
from ...gguf_models.loading import names_of, refuse_images_without_encoder
from ...gguf_models.reading import is_gguf
from ...protocol.worker_messages import ModelSpec
from ..oom import free_cached_memory, is_out_of_memory, out_of_memory
from .holding import hold_in_fp32
from .host_patcher import GgufHostPatcher, HostPatcher
from .lazy_tokenizer import lazy_tokenizers

# What ComfyUI's loaders raise for files that they cannot make sense of.
LOAD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    ModelFileError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)
_SAFE = (".safetensors", ".sft")
INSIDE = "inside"  # among the options: which encoder to take out of each file


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was when it was mapped."""

    path: Path
    place: tuple[int, int]  # device and inode
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Look at a file."""
        state = path.stat()
        return cls(path, (state.st_dev, state.st_ino), state.st_size, state.st_mtime_ns)

    def is_intact(self) -> bool:
        """Is what was mapped still what it was? A file that another one replaced is."""
        try:
            now = FileState.of(self.path)
        except OSError:  # moved or deleted
            return True
        return now == self or now.place != self.place


@dataclass(slots=True, eq=False)
class ComfyModel:
    """A loaded object of ComfyUI.

    Attributes:
        kind: What it is.
        key: Its model key.
        object: The comfy.sd.CLIP, comfy.sd.VAE or ClipVisionModel; None once it is unloaded.
        files: What its weights are mapped from.
        base: The patcher of the plain weights.
        applied: Whose patches are in the weights now: the recipe's digest, and the patcher.
        borrowed: Keys of other models whose weights are in those patches.
    """

    kind: ModelKind
    key: str
    object: Any
    files: tuple[FileState, ...]
    base: Any
    applied: tuple[str, Any]
    borrowed: frozenset[str] = frozenset()

    def check_files(self) -> None:
        """Raise NotFoundError when a mapped file was written again: its weights are other ones now."""
        for file in self.files:
            if not file.is_intact():
                raise NotFoundError(
                    f"'{file.path.name}' has changed since it was loaded.",
                    "Run the workflow again, so that the new file is loaded.",
                )


def load_model(spec: ModelSpec) -> ComfyModel:
    """Load a CLIP, a VAE or a CLIP vision model.

    Raises:
        BadRequestError: A file is damaged, of another kind, or holds no such object.
        OutOfMemoryError: The device has no room for it.
    """
    if spec.kind is None:
        raise BadRequestError("The comfy engine loads whole objects of ComfyUI only.")
    paths = [Path(path) for path in (spec.path, *spec.more_paths)]
    for path in paths:
        _refuse_unsafe(path, spec)
    patcher_class = GgufHostPatcher if any(map(is_gguf, paths)) else HostPatcher
    files = tuple(FileState.of(path) for path in paths)
    loader = {"clip": _load_clip, "vae": _load_vae, "clip_vision": _load_clip_vision}[spec.kind]
    names = " and ".join(f"'{path.name}'" for path in paths)
    try:
        # As ComfyUI does whatever it does; quantised weights cannot be moved otherwise.
        with torch.inference_mode():
            loaded = loader(spec, [str(path) for path in paths])
            finish(loaded.patcher, patcher_class)
            if spec.kind == "clip" and spec.precision == "float32":
                hold_in_fp32(loaded.patcher)
    except ModelFileError as error:
        raise BadRequestError(error.message, error.hint) from error
    except LOAD_ERRORS as error:
        if is_out_of_memory(error):
            device = str(comfy.model_management.get_torch_device())
            free_cached_memory(device)
            raise out_of_memory(f"Loading {names}", device) from error
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BadRequestError(
            f"ComfyUI cannot load {names}: {reason}.",
            "Check that the download is complete and that the file is of the kind that was chosen.",
        ) from error
    assert isinstance(loaded.patcher, HostPatcher), "the loader made a patcher of its own"
    return ComfyModel(
        spec.kind, spec.key, loaded, files, loaded.patcher, applied=("", loaded.patcher)
    )


def _refuse_unsafe(path: Path, spec: ModelSpec) -> None:
    if is_gguf(path) and (spec.kind != "clip" or _is_checkpoint(spec)):
        raise BadRequestError(
            f"'{path.name}' is a GGUF file; of those only text encoders are loaded.",
            "Choose a .safetensors file of the same model.",
        )
    if path.suffix.lower() not in _SAFE and not is_gguf(path):
        raise BadRequestError(
            f"'{path.name}' is not a .safetensors file. Other formats can run code when they are opened, "
            "and the daemon does not open them.",
            "Convert it to .safetensors, or load it with ComfyUI's own loader.",
        )


def _load_clip(spec: ModelSpec, paths: list[str]) -> Any:
    # Built where stock ComfyUI keeps it while it is not used; only what is assigned takes memory.
    options: dict[str, Any] = {"initial_device": torch.device("cpu")}
    dtype = _dtype(spec)
    if dtype is not None:
        options["dtype"] = dtype
    with assigned_weights(torch.float32, HostPatcher), lazy_tokenizers():
        if _is_checkpoint(spec):
            found = comfy.sd.load_checkpoint_guess_config(
                paths[0], output_vae=False, output_model=False, te_model_options=options
            )
            clip = found[1]
        else:
            inside = spec.options.get(INSIDE, "," * (len(paths) - 1)).split(",")
            tensors = read_encoders(paths, inside)
            names = names_of(tensors)
            clip = comfy.sd.load_text_encoder_state_dicts(
                tensors, clip_type=_clip_type(spec), model_options=options
            )
            if any(is_gguf(Path(path)) for path in paths):
                refuse_images_without_encoder(clip.cond_stage_model, names)
    return _present(clip, "text encoder", paths)


def _load_vae(spec: ModelSpec, paths: list[str]) -> Any:
    with assigned_weights(None, HostPatcher), _choosing("vae_dtype", _dtype(spec)):
        if _is_checkpoint(spec):
            found = comfy.sd.load_checkpoint_guess_config(
                paths[0], output_clip=False, output_model=False
            )
            vae = found[2]
        else:
            weights, metadata = comfy.utils.load_torch_file(paths[0], return_metadata=True)
            vae = comfy.sd.VAE(sd=weights, metadata=metadata)
    return _present(vae if vae.first_stage_model is not None else None, "VAE", paths)


def _load_clip_vision(spec: ModelSpec, paths: list[str]) -> Any:
    with (
        assigned_weights(torch.float32, HostPatcher),
        _choosing("text_encoder_dtype", _dtype(spec)),
    ):
        model = comfy.clip_vision.load(paths[0])
    return _present(model, "CLIP vision model", paths)


def _present(loaded: Any, what: str, paths: list[str]) -> Any:
    if loaded is None:
        raise BadRequestError(
            f"'{Path(paths[0]).name}' holds no {what} that ComfyUI knows.", "Choose another file."
        )
    return loaded


def _is_checkpoint(spec: ModelSpec) -> bool:
    return spec.options.get("checkpoint") == "1"


def _clip_type(spec: ModelSpec) -> Any:
    name = spec.options.get("clip_type", "STABLE_DIFFUSION").upper()
    if name not in comfy.sd.CLIPType.__members__:
        raise BadRequestError(
            f"The daemon's ComfyUI has no CLIP type '{name.lower()}'.", "Update that ComfyUI."
        )
    return comfy.sd.CLIPType[name]


def _dtype(spec: ModelSpec) -> torch.dtype | None:
    name = spec.options.get("dtype", "")
    if not name:
        return None
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise BadRequestError(f"There is no element type '{name[:40]}'.")
    return dtype


@contextmanager
def _choosing(function: str, dtype: torch.dtype | None) -> Iterator[None]:
    """Let ComfyUI choose this element type, as long as this lasts; None: whatever it chooses."""
    stock = getattr(comfy.model_management, function)
    if dtype is not None:
        setattr(comfy.model_management, function, lambda *args, **options: dtype)
    try:
        yield
    finally:
        setattr(comfy.model_management, function, stock)
