"""The supervisor's word on the last run is taken once, and is only ever words."""

from __future__ import annotations

from pathlib import Path

from device_agent.ending import NAME, take_cause


def test_it_is_said_once(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("oom-kill\n")
    assert take_cause(tmp_path) == "oom-kill" and take_cause(tmp_path) == ""


def test_what_is_no_text_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\x1b[31m\xff\x00" + b"x" * 5000)
    assert len(take_cause(tmp_path)) <= 100 and take_cause(tmp_path / "absent") == ""
    (tmp_path / NAME).mkdir()
    assert take_cause(tmp_path) == ""
