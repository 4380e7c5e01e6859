"""Which samples were taken within the last day, in a file: a restart does not begin the quotas anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from device_agent.contract.errors import NotWritable
from device_agent.contract.files import write_whole
from device_agent.contract.histogram import BINS, MOST_CLASSES
from device_agent.contract.reading import read_plain
from device_agent.contract.report import U63
from device_agent.samples.ages import age_ms

_Cell = Annotated[int, Meta(ge=0, lt=MOST_CLASSES * BINS)]
_MOST = 8 << 20


class Taken:
    """Wall-clock time and cell of the last `most` samples. A file that is damaged or cannot be written is as none."""

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._most = path, most
        try:
            self._rows = msgspec.json.decode(read_plain(path, _MOST), type=list[tuple[U63, _Cell]])[-most:]
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            self._rows = []

    def ages(self, now_ms: int) -> list[tuple[int, int]]:
        """Age in ns and cell of each. One whose time cannot be true counts as just taken, once: it is written so."""
        self._rows = [(now_ms if age_ms(at_ms, now_ms) is None else at_ms, cell) for at_ms, cell in self._rows]
        return [((now_ms - at_ms) * 1_000_000, cell) for at_ms, cell in self._rows]

    def add(self, at_ms: int, cell: int) -> None:
        """Note one that is taken now."""
        self._rows = [*self._rows, (max(0, at_ms), cell)][-self._most :]
        try:
            write_whole(self._path, msgspec.json.encode(self._rows))
        except NotWritable:  # of a full disk the store speaks
            return
