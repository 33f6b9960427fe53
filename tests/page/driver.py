"""What a test does with the page: put nodes on the canvas, set widgets, read what would be queued."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

_ADD = """async (type) => {
    await app.loadGraphData({version: 0.4, nodes: [], links: [], groups: [],
                             last_node_id: 0, last_link_id: 0});
    const node = LiteGraph.createNode(type);
    app.rootGraph.add(node);
    return node.id;
}"""
_WIDGETS = """(id) => app.rootGraph.getNodeById(id).widgets.map((w) => w.name)"""
_OPTIONS = """([id, name]) =>
    app.rootGraph.getNodeById(id).widgets.find((w) => w.name === name).options.values"""
_INPUTS = """(id) => app.rootGraph.getNodeById(id).inputs.map((i) => i.name)"""
_LABELS = """(id) => Object.fromEntries(
    app.rootGraph.getNodeById(id).widgets.map((w) => [w.name, w.label ?? w.name]))"""
_SET = """([id, name, value]) => {
    const widget = app.rootGraph.getNodeById(id).widgets.find((w) => w.name === name);
    widget.value = value;
    widget.callback?.(value);
}"""
_PROMPT = """async (id) => (await app.graphToPrompt()).output[String(id)]?.inputs"""
_RENDERER = """async (modern) => {
    await app.extensionManager.setting.set("Comfy.VueNodes.Enabled", modern);
}"""
_VALUE = """([id, name]) =>
    app.rootGraph.getNodeById(id).widgets.find((w) => w.name === name).value"""
_RELOAD = """async () => { await app.loadGraphData(app.rootGraph.serialize()); }"""
_IN_WIDGET = """([id, name, selector]) => {
    const {element} = app.rootGraph.getNodeById(id).widgets.find((w) => w.name === name);
    return [...element.querySelectorAll(selector)]
        .filter((found) => found.isConnected && found.getBoundingClientRect().height > 0)
        .map((found) => found.src ?? found.textContent);
}"""
_TITLE = """(id) => app.rootGraph.getNodeById(id).title"""


@dataclass
class Node:
    """A node on the canvas."""

    page: Page
    id: int

    @property
    def title(self) -> str:
        """What its head shows."""
        return str(self.page.evaluate(_TITLE, self.id))

    @property
    def widgets(self) -> list[str]:
        """Names of its widgets, from top to bottom."""
        return list(self.page.evaluate(_WIDGETS, self.id))

    @property
    def inputs(self) -> list[str]:
        """Names of its input sockets, widgets that can be linked included."""
        return list(self.page.evaluate(_INPUTS, self.id))

    @property
    def labels(self) -> dict[str, str]:
        """Widget → what is written beside it."""
        return dict(self.page.evaluate(_LABELS, self.id))

    @property
    def prompt(self) -> dict[str, Any]:
        """Its inputs as they would be queued."""
        return dict(self.page.evaluate(_PROMPT, self.id))

    def value(self, widget: str) -> Any:
        """Return what a widget is set to."""
        return self.page.evaluate(_VALUE, [self.id, widget])

    def comes_to_show(
        self, widget: str, selector: str, wanted: list[str], seconds: float = 20.0
    ) -> bool:
        """Do the visible elements inside a widget come to have these texts, or addresses?"""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.page.evaluate(_IN_WIDGET, [self.id, widget, selector]) == wanted:
                return True
            self.page.wait_for_timeout(100)
        return False

    def options(self, widget: str) -> list[str]:
        """Return the choices of a combo."""
        return list(self.page.evaluate(_OPTIONS, [self.id, widget]))

    def set(self, widget: str, value: object) -> None:
        """Set a widget as a person would."""
        self.page.evaluate(_SET, [self.id, widget, value])

    def shows(self, wanted: list[str], unwanted: list[str], seconds: float = 20.0) -> bool:
        """Does the modern renderer come to draw these texts in the node, and not those?"""
        drawn = self.page.locator(f'[data-node-id="{self.id}"]')
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lines = drawn.inner_text().splitlines()
            if set(wanted) <= set(lines) and not set(unwanted) & set(lines):
                return True
            self.page.wait_for_timeout(100)
        return False


@dataclass
class Canvas:
    """The page of the session."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def add(self, node_type: str) -> Node:
        """Put one node on an empty canvas."""
        return Node(self.page, self.page.evaluate(_ADD, node_type))

    def reload(self) -> None:
        """Save the workflow, and open it again."""
        self.page.evaluate(_RELOAD)

    def use_renderer(self, *, modern: bool) -> None:
        """Switch between the classic canvas and the one made of page elements (Nodes 2.0)."""
        self.page.evaluate(_RENDERER, modern)
