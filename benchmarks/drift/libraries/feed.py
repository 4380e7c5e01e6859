"""Counts from .npy files, the same for every library, and a note of when each method alarms. numpy only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

EDGES = np.linspace(-1.0, 10.0, 23)
CENTRES = np.concatenate([EDGES[:1] - 0.25, (EDGES[:-1] + EDGES[1:]) / 2, EDGES[-1:] + 0.25])
CONFIDENCE = 1 / (1 + np.exp(-CENTRES))
HOUR = 60


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
    """When a method alarms: how often its state rises before the onset, and the first minute after it that it is up."""

    def __init__(self, case: Case) -> None:
        self._onset = case.onset
        self._end = case.minutes
        self.false = np.zeros(case.devices, np.int64)
        self.first = np.full(case.devices, np.inf)
        self._up, self.up_minutes = np.zeros(case.devices, np.bool_), 0

    def note(self, up: np.ndarray, minute: int, minutes: int = 1) -> None:
        """State (devices,) after minute number `minute`, which stands for as many `minutes`."""
        self.up_minutes += int((up & (minute < self._onset)).sum()) * minutes
        self.false += up & ~self._up & (minute < self._onset)
        hit = up & (minute >= self._onset)
        self.first[hit] = np.minimum(self.first[hit], minute - self._onset[hit] + 1)
        self._up = up

    def of_blocks(self, up: np.ndarray, minutes: int = HOUR) -> Notes:
        """States (devices, blocks), each known at the end of its block."""
        for block in range(up.shape[1]):
            self.note(up[:, block], (block + 1) * minutes - 1, minutes)
        return self

    def result(self) -> dict:
        """For JSON."""
        return {
            "false": int(self.false.sum()),
            "up_minutes": self.up_minutes,
            "healthy_minutes": int(np.minimum(self._onset, self._end).sum()),
            "delays": [None if np.isinf(first) else int(first) for first in self.first],
        }


Method = Callable[[Case], Notes]


def run(library: str, versions: dict[str, str], methods: dict[str, Method]) -> None:
    """Run every method on every case: `python RUNNER.py DATA OUT.json`; done ones are kept and not run again."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    found = json.loads(out.read_text()) if out.exists() else {"library": library, "versions": versions, "results": {}}
    for case in cases(folder):
        for name, method in methods.items():
            of_method = found["results"].setdefault(name, {})
            if case.name in of_method:
                continue
            began = time.perf_counter()
            of_method[case.name] = method(case).result() | {"seconds": round(time.perf_counter() - began, 2)}
            print(f"{library}: {name}: {case.name}: {of_method[case.name]['seconds']} s", file=sys.stderr, flush=True)
            out.write_text(json.dumps(found))


def calibrated(reference: np.ndarray, factor: float = 1.5) -> np.ndarray:
    """A threshold for each device that its own reference would not have reached: `factor` times the largest of its
    statistics (devices, blocks). The one tuned setting of every library that has a threshold."""
    return factor * np.nanmax(reference, axis=1)
