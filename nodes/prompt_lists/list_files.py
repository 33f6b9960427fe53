"""ComfyUI's folders that lists of prompts and their pictures may lie in."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import folder_paths

from ...utils.errors import InputError
from ...utils.files_below import find_below, folder_below, place_below
from ...utils.prompt_lists.choosing import is_saved, saved_names
from ...utils.prompt_lists.reading import ENDINGS, PromptList, ending_of, read_list

NO_FILE = "None"
PICTURES = "prompt_pictures"
MAX_LISTS = 4  # that stay in memory


def list_names() -> list[str]:
    """Return the files of ComfyUI's input folder that can be lists of prompts."""
    folder = Path(folder_paths.get_input_directory())
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if ending_of(path.name) in ENDINGS)


def load_list(name: str) -> PromptList:
    """Return a list of prompts of the input folder.

    Raises:
        InputError: There is none of this name, or it cannot be read.
    """
    if name == NO_FILE:
        raise InputError(
            "No list of prompts is chosen.",
            f"Put a file ({', '.join(ENDINGS)}) into ComfyUI's input folder, and choose it.",
        )
    path = find_below([folder_paths.get_input_directory()], name)
    state = path.stat()
    return _load(path, name, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=MAX_LISTS)
def _load(path: Path, name: str, _size: int, _time: int) -> PromptList:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"'{name}' cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    return read_list(data, name)


def list_stamp(name: str) -> list[int]:
    """Return size and time of a list's file, which change when it does; [] when it is not there."""
    path = Path(folder_paths.get_input_directory(), name)
    if not path.is_file():
        return []
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def done_below_output(prefix: str, names: list[str]) -> list[bool]:
    """Tell of each name whether a picture of it is in the output folder.

    Args:
        prefix: What savers get before each name; it may have folders.
        names: Of the pictures.

    Raises:
        InputError: The prefix leads out of the output folder.
    """
    whole = place_below(folder_paths.get_output_directory(), f"{prefix}-")
    start = whole.name[:-1]
    if not whole.parent.is_dir():
        return [False] * len(names)
    files = saved_names(os.listdir(whole.parent), lambda name: (whole.parent / name).is_file())
    return [is_saved(f"{start}{name}", files) for name in names]


def picture_folder(name: str) -> Path:
    """Return the folder of pictures that is meant.

    Raises:
        InputError: It is not below the folders whose pictures may be read.
    """
    roots = [folder_paths.get_input_directory(), folder_paths.get_output_directory()]
    # Not told to ComfyUI as folders of models, whose files it lists and watches: only what
    # extra_model_paths.yaml names is asked for.
    if PICTURES in folder_paths.folder_names_and_paths:
        roots += folder_paths.get_folder_paths(PICTURES)
    return folder_below(roots, name, PICTURES)


def list_place(name: str, in_input: bool, folder: str) -> Path:
    """Return where a new list goes: into the input folder, or into a folder below output.

    Raises:
        InputError: The name leads out of these, or has another ending than .json.
    """
    if ending_of(name.strip()) != ".json":
        raise InputError(f"'{name}' is no name for a JSON file.", "End it in .json.")
    if in_input:
        return place_below(folder_paths.get_input_directory(), name)
    place = place_below(folder_paths.get_output_directory(), folder)
    return place_below(place, name)
