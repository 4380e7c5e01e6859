"""Counts from .npy files, the same for every library, and a note of when each method alarms. numpy only."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

EDGES = np.linspace(-1.0, 10.0, 23)
CENTRES = np.concatenate([EDGES[:1] - 0.25, (EDGES[:-1] + EDGES[1:]) / 2, EDGES[-1:] + 0.25])
CONFIDENCE = 1 / (1 + np.exp(-CENTRES))
HOUR, HOLD, STEP = 60, 360, 47
"""Minutes: of a block; in which an alarm that comes back is the same; between moments that are tried. 47 and 60 have no
common factor, so that no moment is always just before the end of an hour."""


class Case(NamedTuple):
    """One scenario: learn and watch are (devices, minutes, 48) uint16, the pairs (devices, minutes) int32; onset
    (devices,) minutes of `watch`, over its end where nothing goes wrong."""

    name: str
    learn: np.ndarray
    learn_same: np.ndarray
    watch: np.ndarray
    same: np.ndarray
    identical: np.ndarray
    onset: np.ndarray

    @property
    def devices(self) -> int:
        return len(self.watch)

    @property
    def minutes(self) -> int:
        return self.watch.shape[1]


def cases(folder: Path) -> Iterator[Case]:
    """The scenarios in a folder, memory-mapped."""
    for path in sorted(folder.glob("*.watch.npy")):
        name = path.name.partition(".")[0]
        parts = {k: np.load(folder / f"{name}.{k}.npy", mmap_mode="r") for k in Case._fields[1:]}
        yield Case(name, **parts)


def mean_confidence(counts: np.ndarray) -> np.ndarray:
    """Mean confidence (...,) of counts (..., 48)."""
    by_bin = counts.reshape(*counts.shape[:-1], 2, 24).sum(axis=-2)
    return by_bin @ CONFIDENCE / np.maximum(by_bin.sum(axis=-1), 1)


def blocks(counts: np.ndarray, minutes: int = HOUR) -> np.ndarray:
    """Sums (devices, blocks, 48) int64 of whole blocks of minutes."""
    whole = counts.shape[1] // minutes * minutes
    shaped = counts[:, :whole].reshape(len(counts), -1, minutes, counts.shape[2])
    return shaped.sum(axis=2, dtype=np.int64)


def unfold(counts: np.ndarray) -> np.ndarray:
    """Confidence of every frame in counts (48,), one after the other."""
    return np.repeat(np.tile(CONFIDENCE, 2), counts)


class Notes:
    """When a method alarms: how often before the onset, and the first minute after it that it is up.

    An alarm stands until it has not come back for `HOLD` minutes, whatever the method: one that flickers is counted
    once, and stands all the time.
    """

    def __init__(self, case: Case) -> None:
        self._onset, self._end = case.onset, case.minutes
        self._healthy = bool((case.onset >= case.minutes).all())
        self.false = np.zeros(case.devices, np.int64)
        self.first = np.full(case.devices, np.inf)
        self._last, self.standing_minutes = np.full(case.devices, -np.inf), 0
        self._seen: list[tuple[int, np.ndarray]] = []

    def note(self, up: np.ndarray, minute: int, minutes: int = 1) -> None:
        """State (devices,) after minute number `minute`, which stands for as many `minutes`."""
        healthy = minute < self._onset
        self.false += up & healthy & (minute - self._last >= HOLD)
        self._last[up] = minute
        self.standing_minutes += int((healthy & (minute - self._last < HOLD)).sum()) * minutes
        hit = up & (minute >= self._onset)
        self.first[hit] = np.minimum(self.first[hit], minute - self._onset[hit] + 1)
        if self._healthy:
            self._seen.append((minute, up.copy()))

    def of_blocks(self, up: np.ndarray, minutes: int = HOUR) -> Notes:
        """States (devices, blocks), each known at the end of its block."""
        for block in range(up.shape[1]):
            self.note(up[:, block], (block + 1) * minutes - 1, minutes)
        return self

    def waits(self) -> list[int | None]:
        """On healthy lines: what would have passed for a delay. Minutes from a moment to the next that the method is
        up, None for never, of moments on all devices `STEP` minutes apart in the first half; 201 quantiles of them."""
        horizon = self._end // 2
        starts = np.arange(0, self._end - horizon, STEP)
        found = np.full((len(starts), len(self.first)), np.inf)
        next_up, rest = np.full(len(self.first), np.inf), list(self._seen)
        for at in range(len(starts) - 1, -1, -1):
            while rest and rest[-1][0] >= starts[at]:
                minute, up = rest.pop()
                next_up[up] = minute
            found[at] = next_up - starts[at] + 1
        found[found > horizon] = np.inf
        picked = np.sort(found.ravel())[np.linspace(0, found.size - 1, 201).round().astype(int)]
        return [None if np.isinf(wait) else int(wait) for wait in picked]

    def result(self) -> dict:
        """For JSON."""
        return {
            "false": int(self.false.sum()),
            "standing_minutes": self.standing_minutes,
            "healthy_minutes": int(np.minimum(self._onset, self._end).sum()),
            "delays": [None if np.isinf(first) else int(first) for first in self.first],
        } | ({"waits": self.waits()} if self._healthy else {})


Method = Callable[[Case], Notes]


def run(library: str, versions: dict[str, str], methods: dict[str, Method], sources: Iterable[Path] = ()) -> None:
    """Run every method on every case: `python RUNNER.py DATA OUT.json`. What the same code has found on the same data
    is kept; `sources` are files that decide it too, besides this one and the runner."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    code = digest(sorted({Path(__file__), Path(sys.argv[0]), *sources}))
    about = {
        "library": library,
        "versions": versions,
        "code": code,
        "made": json.loads((folder / "made.json").read_text()),
    }
    found = json.loads(out.read_text()) if out.exists() else {}
    if {name: found.get(name) for name in about} != about:
        found = about | {"results": {}}
    for case in cases(folder):
        for name, method in methods.items():
            of_method = found["results"].setdefault(name, {})
            if case.name in of_method:
                continue
            began = time.perf_counter()
            of_method[case.name] = method(case).result() | {"seconds": round(time.perf_counter() - began, 2)}
            print(f"{library}: {name}: {case.name}: {of_method[case.name]['seconds']} s", file=sys.stderr, flush=True)
            out.write_text(json.dumps(found))


def digest(files: Iterable[Path]) -> str:
    """8 hex digits of what is in the files."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def calibrated(reference: np.ndarray, factor: float = 1.5) -> np.ndarray:
    """A threshold for each device that its own reference would not have reached: `factor` times the largest of its
    statistics (devices, blocks). The one tuned setting of every library that has a threshold."""
    return factor * np.nanmax(reference, axis=1)
