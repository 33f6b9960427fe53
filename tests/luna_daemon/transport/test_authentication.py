from __future__ import annotations

import os
import socket
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from luna_collection.luna_daemon.errors import AuthError
from luna_collection.luna_daemon.transport.authentication import (
    CLIENT,
    DAEMON,
    check_peer,
    check_proof,
    load_or_make_token,
    make_nonce,
    peer_uid,
    prove,
    read_token,
)

TOKEN = "5f" * 32
HEX = set("0123456789abcdef")

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
needs_unix_sockets = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="this platform has no unix sockets"
)


@pytest.fixture
def token_path(tmp_path: Path) -> Path:
    """Where a token may be; there is none."""
    return tmp_path / "runtime" / "token"


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_token_is_256_random_bits(token_path: Path) -> None:
    token = load_or_make_token(token_path)
    assert (len(token), set(token) - HEX) == (64, set())


def test_every_file_gets_a_token_of_its_own(tmp_path: Path) -> None:
    assert load_or_make_token(tmp_path / "a") != load_or_make_token(tmp_path / "b")


@on_posix
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077], ids=oct)
def test_only_the_user_can_read_a_new_token_file(token_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        load_or_make_token(token_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(token_path.stat().st_mode) == 0o600


def test_a_token_that_is_there_is_kept(token_path: Path) -> None:
    token = load_or_make_token(token_path)
    assert [load_or_make_token(token_path), read_token(token_path)] == [token, token]


def test_nothing_but_the_token_file_is_left(token_path: Path) -> None:
    load_or_make_token(token_path)
    load_or_make_token(token_path)
    assert [path.name for path in token_path.parent.iterdir()] == ["token"]


def test_daemons_that_start_at_once_agree_on_one_token(tmp_path: Path) -> None:
    starting = Barrier(8)

    def start(path: Path) -> str:
        starting.wait()
        return load_or_make_token(path)

    with ThreadPoolExecutor(8) as pool:
        for number in range(30):
            path = tmp_path / str(number)
            assert len(set(pool.map(start, [path] * 8))) == 1


def test_white_space_around_a_token_is_no_part_of_it(token_path: Path) -> None:
    assert read_token(written(token_path, f" {TOKEN}\r\n".encode())) == TOKEN


@on_posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610, 0o644], ids=oct)
@pytest.mark.parametrize("read", [read_token, load_or_make_token], ids=lambda f: f.__name__)
def test_a_token_file_that_is_open_to_others_is_refused(token_path: Path, mode: int, read) -> None:
    with pytest.raises(AuthError, match="can be read by other users") as refused:
        read(written(token_path, TOKEN.encode(), mode))
    assert "chmod 600" in refused.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"5f" * 31,
        b"5f" * 33,
        b"5F" * 32,
        b"zz" * 32,
        b"5f" * 31 + b" 5f",
        b"0x" + b"5f" * 31,
    ],
    ids=["empty", "a line end", "short", "long", "capitals", "no hex", "a blank inside", "0x"],
)
def test_a_file_without_a_token_is_refused(token_path: Path, content: bytes) -> None:
    with pytest.raises(AuthError, match="holds no token"):
        read_token(written(token_path, content))


def test_a_file_that_is_no_text_is_refused(token_path: Path) -> None:
    with pytest.raises(AuthError, match="cannot be read"):
        read_token(written(token_path, b"\xff" * 64))


def test_a_client_is_told_where_the_missing_token_should_be(token_path: Path) -> None:
    with pytest.raises(AuthError) as refused:
        read_token(token_path)
    assert refused.value.message == f"The token file {token_path} cannot be read."
    assert "Start the daemon once" in refused.value.hint


def test_a_folder_is_no_token_file(token_path: Path) -> None:
    token_path.mkdir(parents=True, mode=0o700)
    with pytest.raises(AuthError):
        load_or_make_token(token_path)


@on_posix
def test_a_token_that_cannot_be_written_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    in_the_way = written(tmp_path / "file", b"")
    with pytest.raises(AuthError, match="cannot be made"):
        load_or_make_token(in_the_way / "token")


ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


@pytest.mark.parametrize("who", [DAEMON, CLIENT], ids=["daemon", "client"])
def test_whoever_knows_the_token_can_prove_it(who: bytes) -> None:
    check_proof(TOKEN, who, (ONE, TWO), prove(TOKEN, who, ONE, TWO))


@pytest.mark.parametrize(
    "proof",
    [
        prove("6f" * 32, CLIENT, ONE, TWO),
        prove(TOKEN, DAEMON, ONE, TWO),
        prove(TOKEN, CLIENT, ONE, THREE),
        prove(TOKEN, CLIENT, THREE, TWO),
        prove(TOKEN, CLIENT, TWO, ONE),
        prove(TOKEN, CLIENT, ONE, TWO)[:-1],
        prove(TOKEN, CLIENT, ONE, TWO).upper(),
        "",
        TOKEN,
    ],
    ids=[
        "another token",
        "the daemon's own proof sent back",
        "replayed to another daemon nonce",
        "replayed to another client nonce",
        "nonces swapped",
        "cut short",
        "capitals",
        "empty",
        "the token itself",
    ],
)
def test_it_proves_nothing(proof: str) -> None:
    with pytest.raises(AuthError, match="The token is wrong"):
        check_proof(TOKEN, CLIENT, (ONE, TWO), proof)


def test_a_proof_does_not_contain_the_token() -> None:
    assert TOKEN not in prove(TOKEN, CLIENT, ONE, TWO)


def test_the_proof_is_the_same_in_every_version() -> None:
    # By openssl dgst -sha256 -hmac; a change is a break of the protocol.
    assert prove(TOKEN, CLIENT, ONE, TWO) == (
        "b332575b301a07ffddd15e2ca48a9067c6540c500f4c8013f5328ed4d341cdd3"
    )


def test_a_nonce_is_32_random_bytes() -> None:
    nonces = {make_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert {(len(n), frozenset(n) <= HEX) for n in nonces} == {(64, True)}


@needs_unix_sockets
def test_a_process_of_the_same_user_may_come_in() -> None:
    one, two = socket.socketpair()
    check_peer(one)
    one.close()
    two.close()


@needs_unix_sockets
def test_the_kernel_names_the_peers_user() -> None:
    one, two = socket.socketpair()
    assert peer_uid(one) == os.getuid()
    one.close()
    two.close()


@needs_unix_sockets
def test_a_process_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = socket.socketpair()
    monkeypatch.setattr(os, "getuid", lambda: peer_uid(two) + 1)
    with pytest.raises(AuthError, match="belongs to another user"):
        check_peer(one)
    one.close()
    two.close()
