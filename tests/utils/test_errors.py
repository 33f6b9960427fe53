from __future__ import annotations

import pytest
from luna_collection.luna_daemon import errors as daemon_errors
from luna_collection.utils.errors import InputError, LunaError, ModelFileError


@pytest.mark.parametrize(
    ("message", "hint", "shown"),
    [
        ("It broke.", "Mend it.", "It broke. Mend it."),
        ("It broke.", "", "It broke."),
        ("", "Mend it.", "Mend it."),
        ("100 % {broken}", "", "100 % {broken}"),
    ],
    ids=["both", "no hint", "no message", "signs with a meaning elsewhere"],
)
def test_an_error_shows_its_message_and_its_hint(message: str, hint: str, shown: str) -> None:
    assert str(LunaError(message, hint)) == shown


def test_message_and_hint_can_be_had_apart() -> None:
    error = InputError("It broke.", "Mend it.")
    assert (error.message, error.hint) == ("It broke.", "Mend it.")


def test_without_a_hint_it_is_empty() -> None:
    assert ModelFileError("It broke.").hint == ""


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (InputError, LunaError),
        (ModelFileError, LunaError),
        (daemon_errors.ConfigError, InputError),
        (daemon_errors.DaemonError, LunaError),
        (daemon_errors.ProtocolError, daemon_errors.BadRequestError),
        (daemon_errors.DaemonUnreachableError, daemon_errors.ConnectionLostError),
    ],
    ids=lambda kind: kind.__name__,
)
def test_the_tree_of_errors_stays(kind: type, parent: type) -> None:
    assert issubclass(kind, parent)


def test_a_setting_of_the_user_is_no_error_of_the_daemon() -> None:
    assert not issubclass(daemon_errors.ConfigError, daemon_errors.DaemonError)


def test_errors_between_the_ends_may_be_tried_again() -> None:
    assert daemon_errors.ConnectionLostError("a").retryable is True
    assert daemon_errors.ConnectionLostError.code not in daemon_errors.BY_CODE
