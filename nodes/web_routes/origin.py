"""Does a request come from our own page, or from a program, and not from another site's page?

A browser tells where a page that changes something comes from, and a page cannot lie about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Tell whether a request that changes something may do so.

    Args:
        headers: Of the request; names in any case, where the mapping takes them so.
    """
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("Origin")
    if origin is None:
        return True  # not a page: curl, a script
    try:
        page = urlsplit(origin)
        server = urlsplit(f"{page.scheme}://{headers.get('Host', '')}")
        same_port = _port(page.port, page.scheme) == _port(server.port, page.scheme)
    except ValueError:  # a port that is no number
        return False
    return bool(page.hostname) and page.hostname == server.hostname and same_port


def _port(port: int | None, scheme: str) -> int | None:
    return port or _DEFAULT_PORTS.get(scheme)
