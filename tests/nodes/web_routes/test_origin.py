from __future__ import annotations

import pytest
from luna_collection.nodes.web_routes.origin import is_same_origin

HOST = {"Host": "127.0.0.1:8188"}


@pytest.mark.parametrize(
    "headers",
    [
        HOST,
        {**HOST, "Origin": "http://127.0.0.1:8188"},
        {**HOST, "Origin": "http://127.0.0.1:8188", "Sec-Fetch-Site": "same-origin"},
        {"Host": "Studio.local", "Origin": "https://studio.local"},
        {"Host": "studio.local:443", "Origin": "https://studio.local"},
        {"Host": "[::1]:8188", "Origin": "http://[::1]:8188"},
    ],
    ids=["a program", "our page", "our page, says the browser", "case", "default port", "IPv6"],
)
def test_our_page_and_programs_are_let_through(headers):
    assert is_same_origin(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {**HOST, "Origin": "http://evil.example"},
        {**HOST, "Origin": "http://127.0.0.1:8189"},
        {**HOST, "Origin": "http://localhost:8188"},
        {**HOST, "Origin": "null"},
        {**HOST, "Origin": ""},
        {**HOST, "Origin": "http://127.0.0.1:8188", "Sec-Fetch-Site": "cross-site"},
        {**HOST, "Sec-Fetch-Site": "same-site"},
        {**HOST, "Origin": "http://127.0.0.1:port"},
        {"Origin": "http://127.0.0.1:8188"},
        {"Host": "evil.example@127.0.0.1:8188", "Origin": "http://evil.example"},
    ],
    ids=[
        "another site", "another port", "another name", "a sandboxed page", "empty",
        "the browser knows better", "a neighbour", "no number", "no host", "user in the host",
    ],
)  # fmt: skip
def test_pages_of_other_sites_are_not(headers):
    assert not is_same_origin(headers)
