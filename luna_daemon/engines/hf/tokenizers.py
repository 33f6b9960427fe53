"""The tokenizer beside a text encoder: REPO/tokenizer_2 for REPO/text_encoder_2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from ...errors import BadRequestError, NotFoundError
from .files import read_json, shown
from .loading import CONFIG_ERRORS, quiet_libraries

_ENCODER, _TOKENIZER = "text_encoder", "tokenizer"
_CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast")


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text as an encoder gets it.

    Attributes:
        ids: As many as the encoder has positions: start, text, end, filling.
        mask: 1 for start, text and end, 0 for the filling.
        left_out: Tokens of the text for which there was no room.
    """

    ids: tuple[int, ...]
    mask: tuple[int, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """Turns a text into as many ids as the encoder has positions."""

    tokenizer: Any
    length: int

    def encode(self, text: str) -> Tokens:
        """Return the ids of a text, cut or filled to the encoder's length."""
        whole = self.tokenizer(text, truncation=False, verbose=False).input_ids
        cut = self.tokenizer(text, padding="max_length", max_length=self.length, truncation=True)
        left_out = max(len(whole) - self.length, 0)
        return Tokens(tuple(cut.input_ids), tuple(cut.attention_mask), left_out)


def load_tokenizer(encoder: Path, vocabulary: int, positions: int) -> TextTokenizer:
    """Load the tokenizer that belongs to a text encoder.

    Args:
        encoder: The encoder's folder.
        vocabulary: Number of tokens that the encoder knows.
        positions: Number of tokens that it takes at a time.

    Raises:
        BadRequestError: A file is damaged, or the tokenizer is of another kind or another encoder's.
        NotFoundError: A file is missing.
    """
    if not encoder.name.startswith(_ENCODER):
        raise BadRequestError(
            f"The folder '{shown(encoder, 2)}' is not named '{_ENCODER}…', so its tokenizer cannot be found.",
            "Use the model's folders as they were published: REPO/text_encoder beside REPO/tokenizer.",
        )
    folder = encoder.with_name(_TOKENIZER + encoder.name.removeprefix(_ENCODER))
    _check_files(folder)
    try:
        with quiet_libraries():
            tokenizer = transformers.CLIPTokenizer.from_pretrained(
                str(folder), local_files_only=True
            )
    except (*CONFIG_ERRORS, OSError) as error:
        raise BadRequestError(
            f"The tokenizer in '{shown(folder, 2)}' is damaged or not a CLIPTokenizer.",
            "Download it again.",
        ) from error
    if len(tokenizer) > vocabulary:
        raise BadRequestError(
            f"The tokenizer in '{shown(folder, 2)}' knows {len(tokenizer)} tokens, but the encoder in "
            f"'{shown(encoder, 2)}' only {vocabulary}.",
            "The two folders are not of one model. Download both again.",
        )
    return TextTokenizer(tokenizer, min(tokenizer.model_max_length, positions))


def _check_files(folder: Path) -> None:
    """Look at the files first: from missing ones transformers makes an empty tokenizer."""
    config, single = folder / "tokenizer_config.json", folder / "tokenizer.json"
    kind = (
        read_json(config).get("tokenizer_class", _CLASSES[0]) if config.is_file() else _CLASSES[0]
    )
    if kind not in _CLASSES:
        raise BadRequestError(
            f"The tokenizer in '{shown(folder, 2)}' is of the class {str(kind)[:80]}, but has to be of the "
            f"class {_CLASSES[0]}."
        )
    if single.is_file():
        model = read_json(single).get("model")
        if not isinstance(model, dict) or not _is_vocabulary(model.get("vocab")):
            raise _damaged(single)
    if not single.is_file() or (folder / "vocab.json").exists():
        _check_classic_files(folder / "vocab.json", folder / "merges.txt")


def _check_classic_files(vocabulary: Path, merges: Path) -> None:
    for file in (vocabulary, merges):
        if not file.is_file():
            raise NotFoundError(
                f"There is no file '{shown(file)}'.",
                "A text encoder needs the tokenizer beside it. Download the whole model again.",
            )
    ids = read_json(vocabulary)
    if not _is_vocabulary(ids):
        raise _damaged(vocabulary)
    try:
        lines = merges.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise _damaged(merges) from error
    for line in lines:
        parts = line.split()
        known = len(parts) == 2 and all(part in ids for part in (*parts, "".join(parts)))
        if parts and not known and not line.startswith("#version"):
            raise _damaged(merges)


def _is_vocabulary(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(type(v) is int for v in value.values())


def _damaged(file: Path) -> BadRequestError:
    return BadRequestError(
        f"'{shown(file)}' is damaged: it does not hold what a CLIPTokenizer needs.",
        "Download it again.",
    )
