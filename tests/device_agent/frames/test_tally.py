"""Frames are written down before anybody sees them, and whatever kills the writer leaves whole records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.contract.errors import NotWritable
from device_agent.contract.manifest import InputSpec
from device_agent.contract.tally import read_tally
from device_agent.frames import Frame, SourceEnded, parse_source
from device_agent.frames.capture import Capture
from device_agent.frames.tally import Tally


def test_the_capture_process_accounts_for_every_frame(tmp_path: Path) -> None:
    file = tmp_path / "frames"
    source = parse_source(f"synthetic:size=64,frames=5,ledger={file}")
    capture = Capture(source, InputSpec(height=64, width=64), event=lambda *_: None)
    seen = []
    with pytest.raises(SourceEnded):
        while True:
            frame = capture.next(1.0)
            seen += [] if frame is None else [(frame.stamp, frame.captured_ns)]
    capture.close()
    assert [tuple(one) for one in read_tally(file.read_bytes())] == seen and len(seen) == 5


def test_a_second_writer_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for stamp in (3, 4):
        Tally(tmp_path / "frames").add(Frame(np.zeros((1, 1, 3), np.uint8), stamp, 10 * stamp))
    assert [tuple(one) for one in read_tally((tmp_path / "frames").read_bytes())] == [(3, 30), (4, 40)]


def test_a_ledger_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotWritable, match="ledger"):
        Tally(tmp_path)
