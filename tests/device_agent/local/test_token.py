"""The token lies where only the agent's user reads it, and is compared in constant time."""

from __future__ import annotations

import os

import pytest

from device_agent.contract.errors import BadInput, NotWritable
from device_agent.local.token import NAME, open_token, same, session_of


def test_it_is_made_once_for_one_reader(tmp_path):
    before = os.umask(0)
    try:
        token, path = open_token(tmp_path / "state")
    finally:
        os.umask(before)
    assert len(token) == 32 and set(token) <= set("0123456789abcdef")
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_token(tmp_path / "state") == (token, path)
    assert [one.name for one in path.parent.iterdir()] == [NAME]
    assert open_token(tmp_path / "other")[0] != token


@pytest.mark.parametrize("content", [b"", b"short", b"g" * 32, b"0" * 33, b"A" * 32, b"\xff" * 32, b"0" * 32 + b"\n\n"])
def test_a_file_that_holds_none_is_named(tmp_path, content):
    path = tmp_path / NAME
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadInput, match="must hold 32 hex characters; delete it"):
        open_token(tmp_path)


def test_one_that_others_may_read_is_refused(tmp_path):
    _, path = open_token(tmp_path)
    path.chmod(0o640)
    with pytest.raises(BadInput, match="others may read it"):
        open_token(tmp_path)


def test_a_link_a_folder_and_a_pipe_are_refused(tmp_path):
    path = tmp_path / NAME
    (tmp_path / "elsewhere").write_text("0" * 32)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="cannot be read"):
        open_token(tmp_path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(BadInput, match="32 hex"):
        open_token(tmp_path)
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(BadInput, match="32 hex"):
        open_token(tmp_path)


def test_a_folder_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises((NotWritable, BadInput), match=r"preview\.token: cannot be"):
        open_token(tmp_path / "state")


def test_the_cookie_does_not_give_the_token(tmp_path):
    token, _ = open_token(tmp_path)
    assert token not in session_of(token) and session_of(token) == session_of(token) != session_of("0" * 32)


def test_the_comparison_takes_any_text():
    assert same("abc", "abc")
    assert not any(same(given, "abc") for given in ("", "abd", "abcd", "\udcff", "ü"))
