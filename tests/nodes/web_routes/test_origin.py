from __future__ import annotations

import pytest
from luna_collection.nodes.web_routes.origin import (
    is_called_by_a_name_of_its_own,
    is_same_origin,
)

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


HERE = ("127.0.0.1", "studio")
REBOUND = {"Host": "evil.example:8188"}  # the name has this machine's address by now


@pytest.mark.parametrize(
    ("headers", "arrived_at"),
    [
        ({"Host": "127.0.0.1:8188"}, "127.0.0.1"),
        ({"Host": "[::1]:8188"}, "::1"),
        ({"Host": "localhost:8188"}, "::ffff:127.0.0.1"),
        ({"Host": "comfy.localhost"}, "127.0.0.1"),
        ({"Host": "Studio:8188"}, "127.0.1.1"),
        ({"Host": "studio.local:8188"}, "127.0.1.1"),
        ({"Host": "comfy.example", "Origin": "https://comfy.example"}, "127.0.0.1"),
        ({"Host": "comfy.example", "Sec-Fetch-Site": "same-origin"}, "127.0.0.1"),
        ({"Host": "comfy.lan:8188", "Origin": "http://comfy.lan:8188"}, "192.168.1.5"),
    ],
    ids=[
        "address", "IPv6", "localhost", "below localhost", "our name", "our name in the network",
        "a proxy with a certificate", "the same, says the browser", "from the network",
    ],
)  # fmt: skip
def test_a_server_may_be_called_by_a_name_that_is_its_own(headers, arrived_at):
    assert is_called_by_a_name_of_its_own(headers, arrived_at, "studio")


@pytest.mark.parametrize(
    "headers",
    [
        REBOUND,
        {**REBOUND, "Origin": "http://evil.example:8188"},
        {**REBOUND, "Origin": "http://evil.example:8188", "X-Forwarded-For": "192.0.2.1"},
        {"Host": "localhost.evil.example"},
        {"Host": "notlocalhost"},
        {"Host": "[evil"},
        {},
    ],
    ids=[
        "reads", "changes", "says it was forwarded", "begins with ours", "ends with ours",
        "broken", "none",
    ],
)  # fmt: skip
def test_a_site_that_has_given_its_name_our_address_is_not_let_through(headers):
    assert not is_called_by_a_name_of_its_own(headers, *HERE)


def test_pages_of_such_a_site_are_of_one_origin_with_what_they_ask():
    assert is_same_origin({**REBOUND, "Origin": "http://evil.example:8188"})
