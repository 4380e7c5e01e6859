"""Several cameras in one real agent: each with books of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.contract.report import DeviceReport, read_report
from device_agent.salvage import open_spool

MakeBundle = Callable[..., Path]
AGENT = [sys.executable, "-m", "device_agent", "run"]


def spooled(state: Path) -> list[DeviceReport]:
    spool = open_spool(state, lambda *_: None)
    reports = [read_report(row.payload) for row in spool.pending(limit=-1)]
    spool.close()
    return reports


@pytest.fixture
def run(make_bundle: MakeBundle, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    bundle = make_bundle()

    def begin(text: str) -> subprocess.CompletedProcess[str]:
        config = tmp_path / "agent.toml"
        head = f'bundle = "{bundle}"\nstate = "state"\ndevice = "press-1"\ninterval = 0.2\n'
        config.write_text(head + text)
        return subprocess.run(
            [*AGENT, "--config", str(config)], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )

    return begin


def test_every_frame_of_each_camera_is_in_its_own_spool(run, tmp_path: Path) -> None:
    done = run(
        'source = "synthetic:frames=30,size=64"\n[[camera]]\ndevice = "press-2"\nroi = [0.25, 0.25, 0.5, 0.5]\n'
        'source = "synthetic:frames=50,size=64,seed=1"\n'
    )
    assert done.returncode == 0, done.stderr
    for folder, frames in (("state", 30), ("state/press-2", 50)):
        reports = spooled(tmp_path / folder)
        assert sum(report.frames for report in reports) == frames
        assert sum(report.dropped for report in reports) == 0
    assert "serving: press-1: " in done.stderr and "serving: press-2: " in done.stderr


def test_a_camera_that_cannot_be_opened_leaves_the_other_serving(run, tmp_path: Path) -> None:
    done = run(
        'source = "synthetic:frames=40,size=64"\n[[camera]]\ndevice = "press-2"\nsource = "folder:/nonexistent"\n'
    )
    assert done.returncode == 0, done.stderr
    assert sum(report.frames for report in spooled(tmp_path / "state")) == 40
    (line,) = [line for line in done.stderr.splitlines() if "camera_failed" in line]
    assert "press-2" in line and "/nonexistent" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('source = "synthetic"\n[[camera]]\ndevice = "press-1"\nsource = "synthetic"\n', "stands for two cameras"),
        ('source = "synthetic"\n[[camera]]\ndevice = "press-2"\n', "camera[0]: needs a field 'source'"),
        ('source = "synthetic"\nroi = [0.5, 0.5, 0.6, 0.6]\n', "in shares of the frame that stay inside it"),
        ('source = "synthetic"\n[[camera]]\ndevice = "P"\nsource = "synthetic"\n', "camera[0].device = 'P': must be 3"),
        (
            'source = "synthetic"\n[breaker]\non_drift = "stop"\n',
            "breaker.on_drift = 'stop': must be 'report' or 'safe'",
        ),
        ('source = "synthetic"\n[breaker]\nstop = 1\n', "breaker: no field 'stop'; known are on_drift,"),
    ],
)
def test_a_wrong_table_is_one_line(run, text: str, said: str) -> None:
    done = run(text)
    assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1
