"""The benchmark of a run's artifacts on this machine, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import InputSpec, RunSection
from toolkit.artifacts import open_artifact
from toolkit.runs import Run

LIMIT_S = 180


class Miss(msgspec.Struct, frozen=True):
    """A budget that a measurement is over; `unit` is ms or MiB."""

    artifact: str
    figure: str
    measured: float
    budget: float
    unit: str


def bench_artifact(run: Run, name: str, *, threads: int = 1, quick: bool = False) -> BenchmarkReport:
    """Measure one artifact in a fresh process that holds nothing but the runtime; saved as RUN/benchmark/<name>.json.

    Raises:
        NotFound: the artifact was not converted.
        BadInput: its runtime cannot run it, or does not come to an end.
    """
    artifact = open_artifact(run, name)
    what = Subject(artifact.files[0], artifact.runtime, artifact.precision, artifact.size_bytes)
    report = time_file(what, run.record.input, where=f"{run.dir}: {name}", threads=threads, quick=quick)
    text = msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=2)
    write_whole(run.dir / "benchmark" / f"{name}.json", text + b"\n")
    return report


class Subject(NamedTuple):
    """A file that a runtime opens, and the size of all files of its artifact."""

    path: Path
    runtime: str
    precision: str
    size_bytes: int


def time_file(
    subject: Subject, spec: InputSpec, *, where: str, threads: int = 1, quick: bool = False
) -> BenchmarkReport:
    """The measurement of a file in a fresh process that holds nothing but the runtime; errors name it as `where`.

    Raises:
        BadInput: its runtime cannot run it, or does not come to an end.
    """
    command = [sys.executable, "-m", "device_agent.measure", str(subject.path)]
    command += ["--runtime", subject.runtime, "--precision", subject.precision, "--threads", str(threads)]
    command += ["--input", msgspec.json.encode(spec).decode(), "--size-bytes", str(subject.size_bytes)]
    try:
        done = subprocess.run(
            [*command, "--quick"] if quick else command, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"{where} was not measured within {LIMIT_S} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        said = lines[-1].removeprefix("measure: ") if lines else f"ended with code {done.returncode}"
        raise BadInput(f"{where} cannot be measured: {said}")
    return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=BenchmarkReport)


def find_misses(name: str, report: BenchmarkReport, budgets: RunSection) -> list[Miss]:
    """The budgets that the measurement is over; a budget that is None is never missed."""
    pairs = [
        ("p50", report.p50_ms, budgets.latency_p50_ms, "ms"),
        ("RSS", report.rss_peak_mib, budgets.rss_mib, "MiB"),
        ("size", report.size_mib, budgets.size_mib, "MiB"),
    ]
    return [
        Miss(name, figure, measured, budget, unit)
        for figure, measured, budget, unit in pairs
        if measured is not None and budget is not None and measured > budget
    ]
