"""The texts that a picture's file has beside its pixels, by the names that programs give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import InputError
from .user_comment import decode_user_comment

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_EXIF_IFD = 0x8769
_USER_COMMENT = ExifTags.Base.UserComment
_DESCRIPTION = ExifTags.Base.ImageDescription
# ComfyUI puts "prompt:{…}" and "workflow:{…}" into these, and counts down from Make for more.
_COMFYUI = range(0x0100, ExifTags.Base.Model + 1)
_NAMED = ("prompt", "workflow", "parameters")
_MAX_LENGTH = 64 * 2**20


@dataclass(frozen=True, slots=True)
class PictureTexts:
    """The texts of a picture.

    Attributes:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        named: By the program's name for it: `prompt` and `workflow` of ComfyUI, `parameters` of A1111.
        others: Further texts, those that more likely hold a prompt first.
    """

    width: int
    height: int
    named: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def read_texts(path: Path) -> PictureTexts:
    """Return a picture's texts. Pixels are only read where texts may stand behind them.

    Raises:
        InputError: The file is no picture, or damaged.
    """
    try:
        with Image.open(path) as image:
            return _texts_of(image)
    except UnidentifiedImageError:
        raise InputError(f"'{path.name}' is no picture, whatever its name says.") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"'{path.name}' cannot be read: {error}.") from error


def _texts_of(image: Image.Image) -> PictureTexts:
    chunks = {key: value for key, value in image.info.items() if isinstance(key, str)}
    exif = image.getexif()
    if image.format == "PNG" and not exif and not _texts_in(chunks):
        image.load()  # chunks may stand behind the pixels
        chunks = {key: value for key, value in image.info.items() if isinstance(key, str)}
        exif = image.getexif()
    named = {name: chunks[name] for name in _NAMED if isinstance(chunks.get(name), str)}
    others = [_texts_in(chunks).get(name, "") for name in ("Description", "Comment", "comment")]
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT) or exif.get(_USER_COMMENT)
    if isinstance(comment, (bytes, str)):
        others.insert(0, decode_user_comment(comment))
    for tag in _COMFYUI:
        name, _, text = _unmangled(exif.get(tag)).partition(":")
        if name.lower() in _NAMED:
            named.setdefault(name.lower(), text.strip())
    others += [_unmangled(exif.get(_DESCRIPTION)), *_texts_in(chunks).values()]
    kept = [text for text in others if text.strip() and len(text) <= _MAX_LENGTH]
    return PictureTexts(*image.size, named, tuple(dict.fromkeys(kept)))


def _texts_in(chunks: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of a picture's chunks, without those of its colours and its container."""
    texts = {}
    for key, value in chunks.items():
        if key in _NAMED or key in ("exif", "icc_profile", "xmp", "XML:com.adobe.xmp"):
            continue
        if isinstance(value, bytes) and key == "comment":
            texts[key] = decode_user_comment(b"\0" * 8 + value)
        elif isinstance(value, str) and key not in ("srgb", "compression", "blend"):
            texts[key] = value
    return texts


def _unmangled(value: object) -> str:
    """Return a text of EXIF, which is read as Latin-1 though most programs write UTF-8."""
    if isinstance(value, bytes):
        return decode_user_comment(b"\0" * 8 + value)
    if not isinstance(value, str):
        return ""
    try:
        return value.encode("latin-1").decode("utf-8").strip("\0 ")
    except UnicodeError:
        return value.strip("\0 ")
