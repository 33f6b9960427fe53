"""The model files of this machine, and what is in each of them.

Headers are read when they are asked for, and again when a file has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelFileError
from .contents import UNKNOWN, Contents, FileKind
from .detection import describe, describe_shapes
from .gguf_header import read_gguf_header
from .gguf_names import named_shapes
from .model_parts import files_of, is_part
from .safetensors_header import read_safetensors_header

READABLE = (".safetensors", ".sft")
GGUF = ".gguf"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model.

    Attributes:
        folder: Name of the list that it was found in, such as "checkpoints".
        name: As the list has it.
        path: Where it is.
        contents: What it holds; UNKNOWN where that cannot be told without opening it.
    """

    folder: str
    name: str
    path: Path
    contents: Contents = UNKNOWN


class Shelf:
    """Finds model files by list and name.

    Args:
        names_in: List → names, in the order in which a person sees them.
        path_of: List and name → path, or None when there is no such file.
    """

    def __init__(
        self,
        names_in: Callable[[str], Sequence[str]],
        path_of: Callable[[str, str], str | Path | None],
    ) -> None:
        self.names_in = names_in
        self._path_of = path_of
        self._known: dict[Path, tuple[tuple[int, int], Contents]] = {}
        self._lock = threading.Lock()

    def find(self, folder: str, name: str) -> ModelFile | None:
        """Return a file, or None when it is not there.

        Raises:
            ModelFileError: It is damaged.
        """
        found = self._path_of(folder, name)
        if found is None:
            return None
        path = Path(found)
        return ModelFile(folder, name, path, self._contents(path))

    def at(self, path: str | Path) -> ModelFile:
        """Return the file at a path, whatever list it is in.

        Raises:
            ModelFileError: It is damaged, or not there.
        """
        place = Path(path)
        return ModelFile(place.parent.name, place.name, place, self._contents(place))

    def files_in(self, folder: str) -> Iterator[ModelFile]:
        """Yield the files of a list whose contents can be told; a damaged one has none."""
        for name in self.names_in(folder):
            try:
                file = self.find(folder, name)
            except ModelFileError:
                continue  # it is named when somebody chooses it
            if file is not None:
                yield file

    def _contents(self, path: Path) -> Contents:
        if path.suffix.lower() not in (*READABLE, GGUF):
            return UNKNOWN
        try:
            state = path.stat()
        except OSError as error:
            raise ModelFileError(
                f"'{path.name}' cannot be read: {error.strerror}.",
                "Check the file and its permissions.",
            ) from error
        stamp = (state.st_size, state.st_mtime_ns)
        with self._lock:
            known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        contents = _described(path)
        with self._lock:
            self._known[path] = (stamp, contents)
        return contents


def _of_all_parts(path: Path) -> Contents | None:
    """Return what a diffusion model holds that a file is a part of; None for other models, and without its parts."""
    parts = files_of(path)
    if not all(part.is_file() for part in parts):
        return None
    headers = [read_safetensors_header(part) for part in parts]
    shapes = {n: tensor.shape for header in headers for n, tensor in header.tensors.items()}
    contents = describe_shapes(shapes)
    return contents if contents.kind is FileKind.DIFFUSION_MODEL else None


def _described(path: Path) -> Contents:
    if path.suffix.lower() != GGUF:
        own = describe(read_safetensors_header(path))
        return _of_all_parts(path) or own if is_part(path) else own
    return describe_shapes(named_shapes(path.name, read_gguf_header(path)))
