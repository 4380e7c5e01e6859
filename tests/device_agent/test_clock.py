"""The wall clock is as wrong as a file says, and never stops the agent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from device_agent.clock import OFFSET_FILE, offset_s, wall_s


def test_a_file_sets_it_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFFSET_FILE, str(tmp_path / "offset"))
    assert abs(wall_s() - time.time()) < 5
    (tmp_path / "offset").write_text("-3600\n")
    assert abs(wall_s() - time.time() + 3600) < 5
    (tmp_path / "offset").write_text("-9e9")
    assert wall_s() == 0


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1e11"])
def test_what_is_no_offset_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "offset").write_text(text)
    assert offset_s(str(tmp_path / "offset")) == 0
