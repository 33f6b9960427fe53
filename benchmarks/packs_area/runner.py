"""Runs a pack's nodes on both sides and judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...luna_daemon.proxy.models import DaemonModels, Policy
from ...luna_daemon.proxy.progress import comfyui_client
from ...utils.errors import LunaError
from ..daemon_area.private_daemon import config_for
from . import graph_nodes, verdicts
from .comfy_host import ComfyHost
from .graphs import VARIANTS, Graph, sources_of
from .known_cases import cases_of
from .materials import Files, Given, Side, conditioning_of, models_of
from .slots import NoValueError
from .values import difference, observed
from .verdicts import Run, Verdict

DETAILS = 400  # characters
# For packs whose own nodes take no model, but which may replace what ComfyUI's nodes call.
COMFYUIS_OWN = (
    "CLIPTextEncode",
    "CLIPVisionEncode",
    "LoraLoader",
    "VAEDecode",
    "VAEDecodeTiled",
    "VAEEncode",
)


@dataclass(frozen=True)
class Case:
    """A node with some of its inputs chosen."""

    node: str
    title: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.node} ({self.title})" if self.title else self.node


class Runner:
    """Both sides, and the cases of the pack that is loaded.

    Args:
        host: ComfyUI with the pack.
        models: The folder of model files.
        runtime_dir: The daemon's.
        policy: What the proxies do with edits that cannot be remote.
    """

    def __init__(self, host: ComfyHost, models: Path, runtime_dir: Path, policy: Policy) -> None:
        files = Files(models)
        self._host = host
        self._catalogue = host.catalogue()
        client = comfyui_client(config_for(runtime_dir))
        workflow = DaemonModels(client, f"packs {policy}", "SD1.5", policy=policy)
        self._stock, self._ours = Side(files, None), Side(files, workflow)
        graph_nodes.observe[:] = [observed]
        self._cases = [
            Case(node, title, values)
            for node in self._catalogue.concerned()
            for title, values in cases_of(node).items()
        ] or [Case(node, "with the pack loaded", {}) for node in COMFYUIS_OWN]
        self._conditioning: Any = None
        self._untouched: dict[str, Any] = {}

    def titles(self) -> list[str]:
        """Return the cases by number."""
        return [str(case) for case in self._cases]

    def run(self, number: int) -> Verdict:
        """Run one case on both sides, and look at what it has left behind."""
        with torch.inference_mode():
            if self._conditioning is None:
                self._conditioning = conditioning_of(self._stock.clip)
            verdict, used = self._judge(self._cases[number])
            left = self._look_after(used, verdict)
        if left and verdict.kind not in verdicts.FAILURES:
            return left
        return verdict

    def _judge(self, case: Case) -> tuple[Verdict, set[str]]:
        """Return the verdict, and which models were in the game."""
        graphs, reason = self._graphs(case)
        if not graphs:
            return Verdict(verdicts.NOT_RUN, reason), set()
        first: tuple[Any, Run] | None = None
        for graph in graphs:
            self._note_untouched(models_of(sources_of(graph[0])))
            stock = self._execute(graph, self._stock)
            first = first or (graph, stock)
            if not stock.error:
                break
        else:
            assert first is not None, "there is at least one graph"
            graph, stock = first
        ours = self._execute(graph, self._ours)
        verdict = verdicts.judge(stock, ours, lambda: self._execute(graph, self._stock), difference)
        return verdict, models_of(sources_of(graph[0]))

    def _graphs(self, case: Case) -> tuple[list[tuple[Graph, str]], str]:
        found: list[tuple[Graph, str]] = []
        reason = ""
        for variant in VARIANTS:
            try:
                graph = self._catalogue.graph(case.node, case.values, variant)
            except NoValueError as error:
                reason = str(error)
                continue
            if graph not in found:
                found.append(graph)
        return found, reason

    def _execute(self, graph: tuple[Graph, str], side: Side) -> Run:
        graph_nodes.giving.clear()
        graph_nodes.giving.update(Given(side, self._conditioning).by_name)
        graph_nodes.taken.clear()
        raised = self._host.execute(*graph)
        if raised is not None:
            return failed_run(raised)
        return Run(values=dict(graph_nodes.taken))

    def _note_untouched(self, names: set[str]) -> None:
        missing = names - self._untouched.keys()
        if missing:
            self._untouched.update(self._stock.state(missing))
            # Or only one side's models would have been loaded before, which nodes can notice.
            self._stock.renew()

    def _look_after(self, used: set[str], verdict: Verdict) -> Verdict | None:
        """Compare what the models do now; open them anew where a node has left something behind.

        A node that was refused has left its edits on one side only; there, as if it had not run is right too.
        """
        untouched = {name: self._untouched[name] for name in used}
        stock, ours = _state(self._stock, used), _state(self._ours, used)
        is_touched = bool(stock.error or ours.error or difference(stock.values, untouched))
        if is_touched or self._ours.is_here():
            self._stock.renew()
            self._ours.renew()
        if stock.error:
            text = f"afterwards, only ComfyUI's own object fails: {stock.error}"
            return None if ours.error else Verdict(verdicts.BROKEN, text)
        if ours.error and not ours.is_sentence:
            return Verdict(verdicts.BROKEN, f"afterwards: {ours.error}")
        where = "" if ours.error else difference(ours.values, stock.values)
        if where and verdict.kind == verdicts.SENTENCE and not difference(ours.values, untouched):
            return None
        return Verdict(verdicts.DIFFERENT, f"afterwards: {where}") if where else None


def _state(side: Side, used: set[str]) -> Run:
    try:
        return Run(values=side.state(used))
    except Exception as error:  # noqa: BLE001  # boundary: foreign code may be in the models now
        return failed_run(error)


def failed_run(error: BaseException) -> Run:
    """Return the run that an exception has ended. A pack may raise one of its own that quotes ours."""
    quoted = isinstance(error, LunaError) or any(
        isinstance(link, LunaError) and link.message in str(error) for link in _chain(error)
    )
    text = f"{type(error).__name__}: {error}"
    return Run(error=" ".join(text.split())[:DETAILS], is_sentence=quoted)


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in found:
        found.append(link)
        link = link.__cause__ or link.__context__
    return found
