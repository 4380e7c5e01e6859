"""Reports of a device that has a candidate beside the model it serves."""

from __future__ import annotations

import msgspec
import pytest

from device_agent.contract.report import DeviceReport, Shadow
from fleet.ledger import Entry

OTHER = b"\x0f" * 8
START = 1_760_000_400_000


@pytest.fixture
def shadowed():
    """`shadowed(speaker, agreed=, apart=)`: its next report, with a candidate that called all its frames good."""

    def make(speaker, *, agreed: int = 3, apart: int = 1) -> DeviceReport:
        frames = agreed + apart
        matrix = [number for cell, count in ((0, agreed), (2, apart)) if count for number in (cell, count)]
        shadow = Shadow(OTHER, frames, agreed, matrix, [12, frames], [5, frames])
        return msgspec.structs.replace(speaker.report(), shadow=shadow)

    return make


@pytest.fixture
def entry():
    """`entry(device, report, at_ms)`: the report as the ledger hands it over."""

    def make(device: str, report: DeviceReport, at_ms: int = START) -> Entry:
        cells = report.histogram.cells
        return Entry(device=device, report=report, payload=b"", received_ms=at_ms, at_ms=at_ms, cells=cells,
                     frames=report.frames, dropped=0, same=report.same, identical=0)  # fmt: skip

    return make
