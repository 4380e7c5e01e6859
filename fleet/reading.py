"""Reading: the detector's last word on one device, and the readings of a fleet as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

STIRRING = math.log(10)
Columns = NDArray[np.void]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Score of a device after its last report, natural log of an e-value, and what the strongest stream shows.

    `warn_at`, `page_at`: the scores at which it warns and pages. `level` 0, 1 (warn), 2 (page), held until cleared.
    `armed` False: normal is not known yet, nothing above info is raised. `ratio`: rate over the expected one with its
    95 % interval; `independent`: number of independent frames since `onset_ms`. `peers`: devices compared with.
    `excess`: share of frames, 0 to 1, that the strongest stream has beyond the expected one, at least (95 %); None
    where a stream does not count frames of low confidence. `alone`: what the device shows when its peers excuse
    nothing, where it is judged in this way too and there is anything to see.
    """

    device: str
    model: str
    at_ms: int
    score: float
    warn_at: float
    page_at: float
    level: int
    frozen: bool
    armed: bool
    stream: str
    onset_ms: int
    log_e: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    independent: float
    peers: int
    windows: int
    excess: float | None = None
    alone: Reading | None = None

    @property
    def stirring(self) -> bool:
        """Evidence of at least ten to one, or an alert level that is not cleared yet."""
        return self.level > 0 or self.score >= STIRRING


UNSURE = ("ratio", "ratio_low", "ratio_high", "excess")
"""Fields that may be unknown."""
NUMBERS = np.dtype(
    [
        *((name, np.int64) for name in ("at_ms", "onset_ms", "windows")),
        *((name, np.float64) for name in ("score", "warn_at", "page_at", "log_e")),
        *((name, np.float64) for name in ("ratio", "ratio_low", "ratio_high", "excess", "independent")),
        *((name, np.int32) for name in ("peers", "stream")),
        *((name, np.int8) for name in ("level", "frozen", "armed")),
    ]
)
"""A reading without its names: `stream` is an index, an unknown ratio nan."""


class Page:
    """The readings of one model's devices, a row each; `names` are its streams."""

    def __init__(self, model: str, names: tuple[str, ...]) -> None:
        self.model, self.names = model, names
        self.rows: Columns = np.zeros(0, NUMBERS)

    def grow(self, rows: int) -> None:
        """Add blank rows at the end."""
        self.rows = np.concatenate([self.rows, np.zeros(rows, NUMBERS)])

    def put(self, row: int, reading: Reading) -> None:
        """Take over a reading; one of a stream that is no more gets the first."""
        now = self.rows[row]
        for name in UNSURE:
            value = getattr(reading, name)
            now[name] = math.nan if value is None else value
        for name in NUMBERS.names or ():
            if name == "stream":
                now[name] = self.names.index(reading.stream) if reading.stream in self.names else 0
            elif name not in UNSURE:
                now[name] = getattr(reading, name)

    def calm(self, row: int) -> None:
        """The same reading with nothing found."""
        now = self.rows[row]
        for name in ("score", "level", "frozen", "log_e", "independent"):
            now[name] = 0
        for name in UNSURE:
            now[name] = math.nan

    def reading(self, device: str, row: int) -> Reading:
        """One row in words."""
        found = self.rows[row]
        numbers = dict(zip(NUMBERS.names or (), found.item(), strict=True))
        numbers["stream"] = self.names[numbers["stream"]]
        for name in UNSURE:
            numbers[name] = numbers[name] if math.isfinite(numbers[name]) else None
        for name in ("frozen", "armed"):
            numbers[name] = bool(numbers[name])
        return Reading(device=device, model=self.model, **numbers)


class Readings(Mapping[str, Reading]):
    """The last reading of every device, made when it is asked for."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[Page, int]] = {}
        self._alone: dict[str, tuple[Page, int]] = {}

    def __getitem__(self, device: str) -> Reading:
        page, row = self._places[device]
        reading = page.reading(device, row)
        if device in self._alone:
            page, row = self._alone[device]
            alone = page.reading(device, row)
            if alone.model == reading.model and alone.stirring:
                return msgspec.structs.replace(reading, alone=alone)
        return reading

    def __contains__(self, device: object) -> bool:
        return device in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def place(self, device: str, page: Page, row: int) -> None:
        """From now on the reading of a device is this row."""
        self._places[device] = (page, row)

    def place_alone(self, device: str, page: Page, row: int) -> None:
        """From now on what a device shows without its peers is this row."""
        self._alone[device] = (page, row)

    def of(self, device: str) -> tuple[Page, int] | None:
        """Where the reading of a device is, None without one."""
        return self._places.get(device)


LOW = ("low+", "tail+")
"""Streams that count frames of low confidence."""


def excess(
    streams: NDArray[np.bool_], expected: NDArray[np.float64], ratio_low: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of frames of low confidence beyond the expected one, at least; nan where it is not known, (n,).

    Args:
        streams: (n,) whether the strongest stream is one of `LOW`.
        expected: (n,) its share of frames that is normal, 0 to 1.
        ratio_low: (n,) lower 95 % limit of the rate over the expected one.

    >>> excess(np.array([True, False]), np.array([0.01, 0.01]), np.array([26.0, 26.0])).tolist()
    [0.25, nan]
    """
    return np.where(streams, np.clip(expected * (ratio_low - 1), 0.0, 1.0), np.nan)
