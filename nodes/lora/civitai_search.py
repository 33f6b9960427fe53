"""Asks Civitai where a LoRA could be had. Only what a person has switched on comes here.

One request at a time, with a pause between them; when Civitai does not answer, the rest is not asked for.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...utils.errors import LunaError

CIVITAI = "https://civitai.com"
PAUSE_S = 0.5
TIMEOUT_S = 15.0
MAX_WAIT_S = 20.0  # longer is not waited when Civitai asks for patience
MAX_ANSWER_BYTES = 8_000_000
_TRIES = 3
_AGENT = "luna-collection"


class CivitaiError(LunaError):
    """Civitai could not be asked."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How politely Civitai is asked.

    Attributes:
        pause_s: Between two requests.
        timeout_s: For one answer.
        check: Called before each request; raises when the run was cancelled.
    """

    pause_s: float = PAUSE_S
    timeout_s: float = TIMEOUT_S
    check: Callable[[], object] = lambda: None


def find_links(
    names: Iterable[str], pace: Pace, address: str = CIVITAI
) -> tuple[dict[str, str], str]:
    """Return a link for each name, and a sentence when Civitai could not be asked for all of them.

    The link is that of the best hit; a name without a hit gets the link of Civitai's own search.
    """
    links: dict[str, str] = {}
    problem = ""
    for name in names:
        links[name] = f"{address}/search/models?{urllib.parse.urlencode({'query': name})}"
        if problem:
            continue
        pace.check()
        if len(links) > 1:
            time.sleep(pace.pause_s)
        try:
            links[name] = _best_hit(name, pace, address) or links[name]
        except CivitaiError as error:
            problem = str(error)
    return links, problem


def _best_hit(name: str, pace: Pace, address: str) -> str:
    query = {"query": name, "types": "LORA", "limit": 5, "sort": "Highest Rated"}
    answer = _ask(f"{address}/api/v1/models?{urllib.parse.urlencode(query)}", pace)
    items = answer.get("items") if isinstance(answer, dict) else None
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and isinstance(item.get("id"), int):
            return f"{address}/models/{item['id']}"
    return ""


def _ask(url: str, pace: Pace) -> Any:
    for attempt in range(1, _TRIES + 1):
        request = urllib.request.Request(url, headers={"User-Agent": _AGENT})
        try:
            with urllib.request.urlopen(request, timeout=pace.timeout_s) as answer:
                return _parsed(answer.read(MAX_ANSWER_BYTES + 1))
        except urllib.error.HTTPError as error:
            with error:
                wait = _patience(error)
            if wait is None or attempt == _TRIES:
                raise CivitaiError(
                    f"Civitai answered with the error {error.code} ({error.reason}).",
                    "Try again later, or follow the links of its own search.",
                ) from error
            pace.check()
            time.sleep(wait)
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise CivitaiError(
                f"Civitai could not be reached: {reason}.",
                "Check the network, or switch search_civitai off.",
            ) from error
    raise AssertionError("the last attempt returns or raises")


def _patience(error: urllib.error.HTTPError) -> float | None:
    """Return how long to wait when Civitai says that it is asked too often; None: do not ask again."""
    if error.code != 429:
        return None
    try:
        wait = float(error.headers.get("Retry-After") or 1)
    except ValueError:  # a date
        return None
    return wait if 0 <= wait <= MAX_WAIT_S else None


def _parsed(raw: bytes) -> Any:
    if len(raw) > MAX_ANSWER_BYTES:
        raise CivitaiError("Civitai's answer is too long to be one.", "Try again later.")
    try:
        return json.loads(raw)
    except ValueError as error:
        raise CivitaiError("Civitai's answer is not JSON.", "Try again later.") from error
