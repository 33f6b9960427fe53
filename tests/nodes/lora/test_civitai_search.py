"""Asking Civitai, on a server of our own: what is asked, and what is said when it does not answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from luna_collection.nodes.lora import civitai_search
from luna_collection.nodes.lora.civitai_search import Pace, find_links

QUICK = Pace(pause_s=0.0, timeout_s=5.0)


class Site(HTTPServer):
    """Answers each request with the next of its answers: (status, headers, body)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[dict[str, list[str]]] = []
        self.agents: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(parse_qs(urlsplit(self.path).query))
        self.server.agents.append(self.headers.get("User-Agent"))
        status, headers, body = self.server.answers.pop(0)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def items(*ids: int) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"items": [{"id": each} for each in ids]}).encode()


def test_the_best_hit_is_the_link_and_without_one_it_is_the_search(site):
    site.answers = [items(7, 8), items()]
    links, problem = find_links(["my kim", "a/b&c"], QUICK, site.address)
    assert links == {
        "my kim": f"{site.address}/models/7",
        "a/b&c": f"{site.address}/search/models?query=a%2Fb%26c",
    }
    assert problem == ""
    assert site.asked[0] == {
        "query": ["my kim"], "types": ["LORA"], "limit": ["5"], "sort": ["Highest Rated"],
    }  # fmt: skip
    assert site.asked[1]["query"] == ["a/b&c"]
    assert site.agents == ["luna-collection"] * 2


def test_patience_that_is_asked_for_is_kept_and_the_request_repeated(site):
    site.answers = [(429, {"Retry-After": "0"}, b""), items(3)]
    assert find_links(["a"], QUICK, site.address) == ({"a": f"{site.address}/models/3"}, "")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([(429, {"Retry-After": "0"}, b"")] * 3, "error 429"),
        ([(429, {"Retry-After": "3600"}, b"")], "error 429"),
        ([(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"")], "error 429"),
        ([(500, {}, b"")], "error 500"),
        ([(200, {}, b"<html>")], "not JSON"),
    ],
)
def test_after_an_error_nobody_is_asked_again_and_the_links_are_those_of_the_search(
    site, answers, said
):
    site.answers = list(answers)
    links, problem = find_links(["a", "b"], QUICK, site.address)
    assert said in problem
    assert site.answers == []
    assert len(site.asked) == len(answers)
    assert all("/search/models?query=" in link for link in links.values())


@pytest.mark.parametrize("body", [b"[]", b'{"items": 3}', b'{"items": [null, {"id": "x"}]}'])
def test_an_odd_answer_is_no_hit(site, body):
    site.answers = [(200, {}, body)]
    links, problem = find_links(["a"], QUICK, site.address)
    assert ("/search/models" in links["a"], problem) == (True, "")


def test_an_answer_without_end_is_cut_off(site, monkeypatch):
    monkeypatch.setattr(civitai_search, "MAX_ANSWER_BYTES", 10)
    site.answers = [items(1, 2, 3)]
    assert "too long" in find_links(["a"], QUICK, site.address)[1]


def test_a_site_that_is_not_there_is_said(site):
    address = "http://127.0.0.1:1"
    links, problem = find_links(["a"], QUICK, address)
    assert "could not be reached" in problem
    assert list(links) == ["a"]


def test_a_run_that_was_cancelled_asks_no_more(site):
    def cancelled() -> None:
        raise InterruptedError("cancelled")

    with pytest.raises(InterruptedError):
        find_links(["a"], Pace(0.0, 5.0, cancelled), site.address)
    assert site.asked == []
