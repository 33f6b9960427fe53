"""Auto mode: the daemon while it can be reached, and this process from the first time that it cannot."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from luna_collection.luna_daemon.errors import (
    BadRequestError,
    ConnectionLostError,
    DaemonUnreachableError,
    DrainingError,
    IncompatibleError,
    OutOfMemoryError,
)
from luna_collection.nodes.model_source import AutoModels
from luna_collection.utils.errors import LunaError


class TooOddError(LunaError):
    """One model cannot be remote."""


class Source:
    """A source that names what it gives, or raises what it is told to."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.notes: list[str] = []
        self.calls: list[str] = []
        self.errors: dict[str, LunaError] = {}

    def _do(self, what: str) -> str:
        self.calls.append(what)
        if what in self.errors:
            raise self.errors[what]
        return f"{what} of {self.label}"

    def prepare(self) -> None:
        self._do("prepare")

    def open_clip(self, _: object) -> str:
        return self._do("clip")

    def open_vae(self, _: object) -> str:
        return self._do("vae")

    def open_clip_vision(self, _: object) -> str:
        return self._do("vision")


@pytest.fixture
def remote() -> Source:
    return Source("daemon")


@pytest.fixture
def auto(remote: Source) -> AutoModels:
    return AutoModels(remote, Source("local"), lambda: True, (TooOddError,))


def everything(auto: AutoModels) -> list[str]:
    auto.prepare()
    return [auto.open_clip(None), auto.open_vae(None), auto.open_clip_vision(None)]


def test_the_daemon_gives_everything_while_it_answers(auto, remote):
    assert everything(auto) == ["clip of daemon", "vae of daemon", "vision of daemon"]
    assert (auto.label, auto.notes) == ("daemon", [])


@pytest.mark.parametrize(
    "error",
    [
        DaemonUnreachableError("Nobody answers."),
        ConnectionLostError("Gone."),
        DrainingError("Bye."),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("step", ["prepare", "clip"])
def test_from_the_first_lost_connection_everything_is_local_and_said_once(
    auto, remote, error, step, caplog: pytest.LogCaptureFixture
):
    remote.errors[step] = error
    with caplog.at_level(logging.WARNING, logger="luna.nodes"):
        assert everything(auto) == ["clip of local", "vae of local", "vision of local"]
    assert remote.calls[-1] == step  # it is not asked again
    assert auto.label == "local (fallback)"
    assert len(auto.notes) == 1
    assert error.message in auto.notes[0]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", [IncompatibleError, BadRequestError, OutOfMemoryError])
def test_a_daemon_that_refuses_is_not_passed_over(auto, remote, kind):
    remote.errors["clip"] = kind("No.")
    with pytest.raises(kind):
        auto.open_clip(None)
    assert auto.open_vae(None) == "vae of daemon"


def test_one_model_that_cannot_be_remote_is_local_alone(auto, remote):
    remote.errors["vae"] = TooOddError("This VAE builds itself in its own way.")
    labels = []
    for step in (auto.open_clip, auto.open_vae, auto.open_clip_vision):
        step(None)
        labels.append(auto.label)
    assert labels == ["daemon", "local", "daemon"]
    assert everything(auto) == ["clip of daemon", "vae of local", "vision of daemon"]
    assert auto.notes == ["Loaded in this process: This VAE builds itself in its own way."]


def test_an_open_breaker_spares_the_attempt(remote):
    never: Callable[[], bool] = lambda: False  # noqa: E731
    auto = AutoModels(remote, Source("local"), never)
    assert everything(auto)[0] == "clip of local"
    assert remote.calls == []
    assert len(auto.notes) == 1
