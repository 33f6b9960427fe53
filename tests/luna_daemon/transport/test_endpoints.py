from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from luna_collection.luna_daemon.errors import AuthError, ConfigError, DaemonUnreachableError
from luna_collection.luna_daemon.transport.endpoints import (
    Endpoint,
    check_socket_path,
    connect,
    default_runtime_dir,
    is_loopback,
    listen_tcp,
    listen_unix,
    make_runtime_dir,
)

needs_unix_sockets = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="this platform has no unix sockets"
)
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for sockets, which pytest's own may not be."""
    with TemporaryDirectory(prefix="luna") as name:
        yield Path(name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def endpoint(socket_path: Path | None = None, port: int = 1) -> Endpoint:
    return Endpoint(socket_path, "127.0.0.1", port, Path("token"))


@on_posix
@pytest.mark.parametrize("there", [False, True], ids=["new", "there already"])
def test_the_runtime_folder_is_open_to_its_user_alone(folder: Path, there: bool) -> None:
    path = folder / "luna-daemon"
    if there:
        path.mkdir()
        path.chmod(0o755)
    make_runtime_dir(path)
    assert mode(path) == 0o700


def test_folders_above_the_runtime_folder_are_made(folder: Path) -> None:
    make_runtime_dir(folder / "state" / "luna-daemon")
    assert (folder / "state" / "luna-daemon").is_dir()


def test_what_is_in_the_runtime_folder_stays(folder: Path) -> None:
    (folder / "token").write_text("x")
    make_runtime_dir(folder)
    assert (folder / "token").read_text() == "x"


def test_a_file_in_the_way_of_the_runtime_folder_is_said(folder: Path) -> None:
    path = folder / "luna-daemon"
    path.touch()
    with pytest.raises(ConfigError) as refused:
        make_runtime_dir(path)
    assert refused.value.message == f"The folder {path} cannot be made (File exists)."


@on_posix
def test_a_runtime_folder_of_another_user_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        make_runtime_dir(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="XDG is Linux's convention")
def test_the_runtime_folder_is_where_xdg_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    assert default_runtime_dir() == folder / "luna-daemon"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="XDG is Linux's convention")
@pytest.mark.parametrize("value", [None, "", "/does/not/exist"], ids=["unset", "empty", "missing"])
def test_without_a_runtime_folder_of_the_login_it_is_in_the_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    monkeypatch.setenv("HOME", str(folder))
    assert default_runtime_dir() == folder / ".local" / "state" / "luna-daemon"


@needs_unix_sockets
def test_only_the_user_can_open_the_socket(folder: Path) -> None:
    path = folder / "daemon.sock"
    listener = listen_unix(path)
    assert mode(path) == 0o600
    listener.close()


@needs_unix_sockets
def test_listening_leaves_the_mask_for_new_files_as_it_was(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        listen_unix(folder / "daemon.sock").close()
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@needs_unix_sockets
def test_a_socket_file_that_was_left_over_is_replaced(folder: Path) -> None:
    path = folder / "daemon.sock"
    listen_unix(path).close()
    listener = listen_unix(path)
    connect(endpoint(path), 1.0).close()
    listener.close()


@needs_unix_sockets
def test_a_file_that_is_no_socket_is_never_replaced(folder: Path) -> None:
    path = folder / "notes.txt"
    path.write_text("keep me")
    with pytest.raises(ConfigError, match="is not a socket"):
        listen_unix(path)
    assert path.read_text() == "keep me"


@needs_unix_sockets
@pytest.mark.parametrize("name", ["missing/daemon.sock", "file/daemon.sock", "."], ids=str)
def test_a_place_where_no_socket_can_be_is_said(folder: Path, name: str) -> None:
    (folder / "file").touch()
    with pytest.raises(ConfigError) as refused:
        listen_unix(folder / name)
    assert str(folder / name) in refused.value.message


@needs_unix_sockets
@pytest.mark.parametrize("use", [check_socket_path, listen_unix], ids=lambda f: f.__name__)
def test_a_path_too_long_for_a_socket_is_refused(folder: Path, use) -> None:
    with pytest.raises(ConfigError) as refused:
        use(folder / ("x" * 120))
    assert "is longer than" in refused.value.message
    assert "runtime_dir" in refused.value.hint


@needs_unix_sockets
def test_the_longest_path_that_is_accepted_can_be_bound(folder: Path) -> None:
    longest = 103 if sys.platform == "darwin" else 107
    path = folder / ("x" * (longest - len(str(folder)) - 1))
    check_socket_path(path)
    listen_unix(path).close()


@needs_unix_sockets
def test_the_length_of_a_socket_path_counts_in_bytes(folder: Path) -> None:
    with pytest.raises(ConfigError, match="is longer than"):
        check_socket_path(folder / ("ü" * 60))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("10.0.0.1", False),
        ("8.8.8.8", False),
        ("fe80::1", False),
        ("", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1 ", False),
        ("example.com", False),
    ],
)
def test_loopback_addresses_are_told_from_others(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "", "example.com"])
def test_the_daemon_listens_on_this_machine_only(host: str) -> None:
    with pytest.raises(ConfigError, match="listens on this machine only") as refused:
        listen_tcp(host, 0)
    assert "127.0.0.1" in refused.value.hint


def test_port_0_takes_a_free_port() -> None:
    listener = listen_tcp("127.0.0.1", 0)
    host, port = listener.getsockname()
    assert (host, port > 0) == ("127.0.0.1", True)
    listener.close()


def test_a_port_in_use_is_said() -> None:
    first = listen_tcp("127.0.0.1", 0)
    port = first.getsockname()[1]
    with pytest.raises(ConfigError) as refused:
        listen_tcp("127.0.0.1", port)
    assert f"Port {port} on 127.0.0.1 cannot be used" in refused.value.message
    assert "--port" in refused.value.hint
    first.close()


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_loopback_is_listened_on() -> None:
    listener = listen_tcp("::1", 0)
    assert (listener.family, listener.getsockname()[0]) == (socket.AF_INET6, "::1")
    listener.close()


@pytest.mark.skipif(has_ipv6(), reason="this machine has IPv6")
def test_missing_ipv6_is_said() -> None:
    with pytest.raises(ConfigError, match="on ::1 cannot be used"):
        listen_tcp("::1", 0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@needs_unix_sockets
def test_the_unix_socket_is_used_where_there_is_one(folder: Path) -> None:
    path = folder / "daemon.sock"
    listener = listen_unix(path)
    sock = connect(endpoint(path), 1.0)
    assert sock.family == socket.AF_UNIX
    sock.close()
    listener.close()


def test_without_a_unix_socket_it_is_tcp(folder: Path) -> None:
    listener = listen_tcp("127.0.0.1", 0)
    sock = connect(endpoint(folder / "missing.sock", listener.getsockname()[1]), 1.0)
    assert sock.family == socket.AF_INET
    sock.close()
    listener.close()


def test_where_nobody_answers_it_says_how_to_start_the_daemon() -> None:
    port = free_port()
    with pytest.raises(DaemonUnreachableError) as refused:
        connect(endpoint(port=port), 1.0)
    assert refused.value.message == (
        f"Cannot reach the Luna daemon at 127.0.0.1:{port} (Connection refused). It is probably not running."
    )
    assert "daemon_server.py" in refused.value.hint


@needs_unix_sockets
def test_a_socket_that_nobody_serves_any_more_is_unreachable(folder: Path) -> None:
    path = folder / "daemon.sock"
    listen_unix(path).close()
    with pytest.raises(DaemonUnreachableError, match="Connection refused"):
        connect(endpoint(path), 1.0)


@needs_unix_sockets
def test_a_file_that_is_no_socket_is_unreachable(folder: Path) -> None:
    path = folder / "daemon.sock"
    path.touch()
    with pytest.raises(DaemonUnreachableError):
        connect(endpoint(path), 1.0)


@needs_unix_sockets
def test_a_daemon_of_another_user_is_not_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "daemon.sock"
    listener = listen_unix(path)
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(AuthError, match="belongs to another user"):
        connect(endpoint(path), 1.0)
    listener.close()


def test_an_endpoint_shows_where_it_is() -> None:
    assert str(endpoint(Path("/run/daemon.sock"), 19283)) == "/run/daemon.sock 127.0.0.1:19283"


def test_an_endpoint_without_a_unix_socket_shows_its_port() -> None:
    assert str(endpoint(port=19283)) == "127.0.0.1:19283"
