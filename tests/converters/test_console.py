"""Chatter is held back, native code's included, and shown when nothing else explains the failure."""

from __future__ import annotations

import os
import tempfile

import pytest

from converters.console import held_back
from device_agent.contract.errors import ParityFailed


def _chatter() -> None:
    print("from python")
    os.write(1, b"from native code\n")
    os.write(2, b"a warning\n")


def test_nothing_is_seen_when_all_goes_well(capfd: pytest.CaptureFixture[str]) -> None:
    with held_back():
        _chatter()
    print("after")
    assert capfd.readouterr() == ("after\n", "")


def test_a_failure_without_a_sentence_shows_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), held_back():
        _chatter()
        raise RuntimeError("broken")
    assert "from native code" in capfd.readouterr().err


def test_a_failure_with_a_sentence_does_not(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ParityFailed), held_back():
        _chatter()
        raise ParityFailed("it says why")
    assert capfd.readouterr() == ("", "")


def test_it_needs_no_place_for_temporary_files(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", "/no/such/place")
        with held_back():
            _chatter()
    assert capfd.readouterr() == ("", "")
