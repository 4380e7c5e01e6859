"""Two models side by side on a runtime: converted, and measured in turns by the device's own loop."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters import CONVERTERS
from converters.console import held_back
from converters.keras_export import Export
from converters.parity import precision_of
from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from toolkit.benchmark import Subject, time_file
from toolkit.compression.outcome import Timing

TURNS, ATTEMPTS = 3, 3
NOISE = 1.03
"""What the least of three turns of one and the same file differ by here; more is slower."""
Clock = Callable[[Subject, InputSpec, str], BenchmarkReport]


def check_artifacts(names: Sequence[str]) -> None:
    """Refuse an artifact that there is no converter for.

    Raises:
        BadInput: its name and those that are known.
    """
    for name in names:
        if name not in CONVERTERS.names():
            raise BadInput(f"no artifact {name!r}; known are {', '.join(CONVERTERS.names())}")


def write_file(model: Any, name: str, spec: InputSpec, calibration: NDArray[np.uint8], folder: Path) -> Subject:
    """The model as the files of an artifact, without the gate of `lineside convert`: it is timed, not trusted.

    Raises:
        BadInput: no such artifact.
    """
    check_artifacts([name])
    runtime, precision = precision_of(name)
    scratch = folder / "scratch"
    shutil.rmtree(folder, ignore_errors=True)  # its intermediate files are those of the model before
    scratch.mkdir(parents=True)
    with held_back():
        files = CONVERTERS.load(name)(Export(model, spec, calibration, scratch), folder)
    return Subject(files[0], runtime, precision, sum(path.stat().st_size for path in files))


def in_turns(
    subjects: Sequence[Subject], spec: InputSpec, name: str, clock: Clock | None = None, turns: int = TURNS
) -> list[BenchmarkReport]:
    """The report of each file's quietest turn; the turns go round, so that what else runs here meets all alike."""
    clock = clock or _clock
    rounds = [[clock(subject, spec, name) for subject in subjects] for _ in range(turns)]
    return [min(reports, key=lambda report: report.p50_ms) for reports in zip(*rounds, strict=True)]


def compare(name: str, parent: Subject, pruned: Subject, spec: InputSpec, clock: Clock | None = None) -> Timing:
    """How long both take as the artifact `name`, one thread. What seems slower is measured again: a network that is
    shows it each time, a neighbour on the machine does not."""
    for _ in range(ATTEMPTS):
        before, after = in_turns([parent, pruned], spec, name, clock)
        slower = after.p50_ms > NOISE * before.p50_ms
        if not slower:
            break
    return Timing(
        artifact=name,
        device=after.device,
        runtime_version=after.runtime_version,
        threads=after.threads,
        parent_ms=before.p50_ms,
        pruned_ms=after.p50_ms,
        turns=TURNS,
        slower=slower,
    )


def refusal(timings: Sequence[Timing]) -> str:
    """Why a pruned model is refused, empty if it is not."""
    slow = [
        f"{each.artifact} takes {each.pruned_ms:.3f} ms, its parent {each.parent_ms:.3f} ms (measured on {each.device})"
        for each in timings
        if each.slower
    ]
    return f"pruned, it is slower than its parent: {'; '.join(slow)}" if slow else ""


def _clock(subject: Subject, spec: InputSpec, name: str) -> BenchmarkReport:
    return time_file(subject, spec, where=name, quick=True)
