"""The preview of the wildcard builder in the page: what is asked while a person writes, and what is shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .driver import Canvas
from .stub_server import StubServer

BUILDER, PREVIEW = "LunaWildcardBuilder", "luna_wildcard_preview"
TEXT, COUNT, FAILED, NOTE = (
    ".luna-wildcards-text",
    ".luna-wildcards-count",
    ".luna-wildcards-failed",
    ".luna-wildcards-note",
)


def told(texts: list[str], number: int, warnings: list[str] | None = None) -> dict[str, object]:
    return {
        "texts": texts, "picks": [], "warnings": warnings or [],
        "combinations": number, "combinations_text": str(number),
    }  # fmt: skip


@pytest.fixture(params=[False, True], ids=["classic", "modern"])
def page(request: pytest.FixtureRequest, canvas: Canvas, stub: StubServer) -> Iterator[Canvas]:
    """The page in both renderers, on a server that knows some texts."""
    stub.texts = {
        "a {b|c}": told(["a b", "a <b>c</b>"], 2),
        "__x__": told(["__x__"], 1, ["nothing is found for 'x'"]),
    }
    stub.questions.clear()
    canvas.use_renderer(modern=request.param)
    yield canvas
    stub.texts = {}


def test_texts_and_their_number_are_shown(page: Canvas, stub: StubServer) -> None:
    node = page.add(BUILDER)
    assert node.comes_to_show(PREVIEW, "*", [])
    node.set("seed", 7)
    node.set("prompt_template", "a {b|c}")
    assert node.comes_to_show(PREVIEW, TEXT, ["a b", "a <b>c</b>"])
    assert node.comes_to_show(PREVIEW, COUNT, ["2 combinations"])
    assert node.comes_to_show(PREVIEW, "b", [])
    assert stub.questions == [
        {
            "text": "a {b|c}", "count": 20, "seed": 7, "dialect": "luna",
            "yaml_directory": "", "txt_wildcard_directory": "",
        }
    ]  # fmt: skip
    node.set("prefix", "photo")  # which is not asked about
    node.set("prompt_template", "")
    assert node.comes_to_show(PREVIEW, "*", [])
    assert len(stub.questions) == 1


def test_typing_is_enough(page: Canvas) -> None:
    node = page.add(BUILDER)
    page.page.locator("textarea:visible").first.fill("a {b|c}")
    assert node.comes_to_show(PREVIEW, COUNT, ["2 combinations"])
    assert node.prompt["prompt_template"] == "a {b|c}"


def test_warnings_and_errors_are_shown(page: Canvas) -> None:
    node = page.add(BUILDER)
    node.set("prompt_template", "__x__")
    assert node.comes_to_show(PREVIEW, FAILED, ["nothing is found for 'x'"])
    assert node.comes_to_show(PREVIEW, COUNT, ["1 combination"])
    node.set("prompt_template", "unknown to the server")
    said = "The text is nested too deeply. Look for rings."
    assert node.comes_to_show(PREVIEW, FAILED, [said])
    assert node.comes_to_show(PREVIEW, TEXT, [])


def test_a_saved_workflow_shows_them_at_once_and_nothing_of_it_is_queued(page: Canvas) -> None:
    node = page.add(BUILDER)
    node.set("prompt_template", "a {b|c}")
    before = node.prompt
    assert PREVIEW not in before
    assert before["prompt_template"] == "a {b|c}"  # the page itself has chosen nothing
    page.reload()
    assert node.prompt == before
    assert node.comes_to_show(PREVIEW, COUNT, ["2 combinations"])


def test_a_text_from_another_node_is_not_known(canvas: Canvas) -> None:
    node = canvas.add(BUILDER)
    canvas.page.evaluate(
        """(id) => {
            const source = LiteGraph.createNode("LunaYAMLWildcard");
            app.rootGraph.add(source);
            const node = app.rootGraph.getNodeById(id);
            source.connect(0, node, node.findInputSlot("prompt_template"));
        }""",
        node.id,
    )
    said = "The text comes from another node, so it is known only when that has run."
    assert node.comes_to_show(PREVIEW, NOTE, [said])
