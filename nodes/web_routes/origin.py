"""Does a request come from our own page, or from a program, and not from another site's page?

A browser tells where a page that changes something comes from, and a page cannot lie about it. But a site
may give its own name this machine's address after its page has been loaded (DNS rebinding): then the page
and what it asks are of one origin, which is the site's. So who comes by way of this machine itself has to
call it by an address, or by a name that nobody else can give away.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from aiohttp import web

_DEFAULT_PORTS = {"http": 80, "https": 443}
HOW_TO_ASK = "Open ComfyUI's page by the machine's address, or by localhost."
_OURSELVES = ("same-origin", "none")


def may_ask(request: web.Request) -> bool:
    """Tell whether a request may change something, or learn what is for our own page only."""
    own = request.transport.get_extra_info("sockname") if request.transport else None
    arrived_at = str(own[0]) if isinstance(own, tuple) else ""
    return is_same_origin(request.headers) and is_called_by_a_name_of_its_own(
        request.headers, arrived_at, socket.gethostname()
    )


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Tell whether a request is from a page of the server that it asks, or from no page.

    Args:
        headers: Of the request; names in any case, where the mapping takes them so.
    """
    if headers.get("Sec-Fetch-Site", "same-origin") not in _OURSELVES:
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


def is_called_by_a_name_of_its_own(
    headers: Mapping[str, str], arrived_at: str, machine: str
) -> bool:
    """Tell whether the name that a request uses for this server can be no other site's.

    Names are only looked at where a request came by way of this machine itself. A server that listens to
    the network is called there by whatever name the network has for it.

    Args:
        headers: Of the request.
        arrived_at: The server's address that it came to.
        machine: The machine's own name.
    """
    if not _is_loopback(arrived_at):
        return True
    try:
        name = urlsplit(f"//{headers.get('Host', '')}").hostname or ""
    except ValueError:  # brackets without an address
        return False
    if _is_address(name) or name.rpartition(".")[2] == "localhost":
        return True
    short = machine.lower().partition(".")[0]
    if name in (machine.lower(), short, f"{short}.local"):
        return True
    # A proxy on this machine, which a page has reached by a certificate for the name: no other site has
    # that. Browsers send Sec-Fetch-Site for such pages only, and no script can write these headers.
    is_by_https = headers.get("Origin", "").startswith("https://")
    return is_by_https or headers.get("Sec-Fetch-Site") in _OURSELVES


def _port(port: int | None, scheme: str) -> int | None:
    return port or _DEFAULT_PORTS.get(scheme)


def _is_loopback(address: str) -> bool:
    with contextlib.suppress(ValueError):
        found = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(found, "ipv4_mapped", None)  # an IPv6 socket that takes both
        return bool((mapped or found).is_loopback)
    return False


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False
