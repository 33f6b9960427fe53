"""EXIF's UserComment: eight bytes that name a character set, and a text."""

from __future__ import annotations

_HEADER = 8
_BOMS = (b"\xff\xfe", b"\xfe\xff")


def decode_user_comment(data: bytes | str) -> str:
    """Return the text of a UserComment; "" when it has none.

    Programs disagree about UNICODE: it is UTF-16 of either byte order, with or without a mark, and some
    write UTF-8 there. What reads as a text is taken.
    """
    if isinstance(data, str):
        return data.strip("\0 ")
    charset, body = data[:_HEADER].rstrip(b"\0 ").upper(), data[_HEADER:]
    if charset == b"UNICODE":
        text = _unicode(body)
    elif charset == b"ASCII":
        text = _plain(body)
    elif charset == b"JIS":
        text = _japanese(body)
    elif charset == b"":
        text = _plain(body)
    else:  # no header at all
        text = _plain(data)
    return text.strip("\0 ")


def _unicode(body: bytes) -> str:
    if body[:2] in _BOMS:
        return body.decode("utf-16", "replace")
    zeros = body.count(0)
    if not zeros and len(body) % 2:
        return _plain(body)
    readings = [body.decode(encoding, "replace") for encoding in ("utf-16-be", "utf-16-le")]
    if not zeros and body.isascii():
        readings.append(body.decode("ascii"))
    # Latin letters, digits and commas are in every prompt, also in one that is mostly of other scripts.
    return max(readings, key=_share_of_ascii)


def _share_of_ascii(text: str) -> float:
    return sum(" " <= letter <= "~" for letter in text) / max(1, len(text))


def _japanese(body: bytes) -> str:
    for encoding in ("iso2022_jp", "shift_jis"):
        try:
            return body.decode(encoding)
        except UnicodeDecodeError:
            continue
    return _plain(body)


def _plain(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("latin-1")
