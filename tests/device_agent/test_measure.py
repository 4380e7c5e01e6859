"""The benchmark loop on clocks of its own, and once in a real process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.manifest import InputSpec
from device_agent.measure import Effort, Samples, disturbances, measure, repeat, warm_up

SPEC = InputSpec(height=16, width=16)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_as_many_runs_and_as_long_as_asked() -> None:
    clock = Clock()

    def step() -> None:
        clock.now += 0.002

    assert len(repeat(step, Effort(50, 0.0), wall=clock, cpu=clock).wall_ms) == 50
    assert len(repeat(step, Effort(50, 1.0), wall=clock, cpu=clock).wall_ms) == pytest.approx(500, abs=1)
    assert len(repeat(step, Effort(50, 1.0, most_runs=70), wall=clock, cpu=clock).wall_ms) == 70


def test_wall_and_cpu_are_told_apart() -> None:
    wall, cpu = Clock(), Clock()

    def step() -> None:
        wall.now += 0.004
        cpu.now += 0.001

    samples = repeat(step, Effort(50, 0.0), wall=wall, cpu=cpu)
    assert samples.wall_ms == pytest.approx([4.0] * 50)
    assert samples.cpu_ms == pytest.approx([1.0] * 50)


def test_warm_up_ends_when_it_is_steady() -> None:
    clock = Clock()
    times = iter([0.1] * 10 + [0.05] * 10 + [0.001] * 100)

    def step() -> None:
        clock.now += next(times)

    assert warm_up(step, wall=clock, most_s=100.0) == 40


def test_warm_up_gives_up_in_time() -> None:
    clock = Clock()

    def step() -> None:
        clock.now = clock.now * 1.1 + 0.01

    warm_up(step, wall=clock, most_s=3.0)
    assert 3.0 <= clock.now < 10.0


def test_a_quiet_run_has_no_flags_and_a_disturbed_one_says_why() -> None:
    assert disturbances(Samples([1.0, 1.1, 1.2], [1.0, 1.1, 1.2]), threads=1) == []
    assert disturbances(Samples([1.0, 1.4, 1.5], [1.0, 1.4, 1.5]), threads=1) == ["p50 is 1.40 x the minimum"]
    assert disturbances(Samples([2.0, 2.0], [1.0, 1.0]), threads=1)[0].endswith("other programs ran")
    assert disturbances(Samples([2.0, 2.0], [1.0, 1.0]), threads=2) == []


def test_the_report_of_a_fake(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text('{"classes": 3}')
    report = measure("fake", path, SPEC, precision="fp32", effort=Effort(60, 0.0), size_bytes=2 * 1024**2)
    assert report.provenance == "measured" and report.runs == len(report.samples_ms) == 60
    assert 0 < report.min_ms <= report.p50_ms <= report.p90_ms <= report.p99_ms <= report.max_ms
    assert report.size_mib == 2.0 and report.preprocess_p50_ms and report.first_inference_ms
    assert report.valid == (not [flag for flag in report.flags if flag.startswith("p50")])


def test_long_runs_are_thinned(tmp_path: Path) -> None:
    report = measure("fake", tmp_path / "none", SPEC, precision="fp32", effort=Effort(3000, 0.0), size_bytes=0)
    assert report.runs == 3000 and len(report.samples_ms) == 1000


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "device_agent.measure", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text('{"classes": 3}')
    spec = msgspec.json.encode(SPEC).decode()
    done = run(str(path), "--runtime", "fake", "--precision", "fp32", "--input", spec, "--quick")
    report = msgspec.json.decode(done.stdout, type=BenchmarkReport)
    assert done.returncode == 0 and report.runs >= 50
    assert report.rss_peak_mib is not None and 10 < report.rss_peak_mib < 300


def test_bad_input_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text('{"classes": 1}')
    spec = msgspec.json.encode(SPEC).decode()
    for arguments in (("--runtime", "fake", "--input", spec), ("--runtime", "none", "--input", spec)):
        done = run(str(path), "--precision", "fp32", *arguments)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and done.stderr.startswith("measure: ")
    done = run(str(path), "--precision", "fp32", "--runtime", "fake", "--input", '{"height": 3}')
    assert done.returncode == 1 and "--input" in done.stderr
