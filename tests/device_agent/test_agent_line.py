"""The real agent and its line: triggers, a deadline, a breaker that tells what is safe."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from device_agent.contract.bundle import read_bundle
from device_agent.detector.normal import Learning
from device_agent.drift import _Memory

MakeBundle = Callable[..., Path]
AGENT = [sys.executable, "-m", "device_agent", "run"]


@pytest.fixture
def run(make_bundle: MakeBundle, tmp_path: Path) -> Callable[..., list[dict[str, object]]]:
    bundle = make_bundle()

    def begin(text: str, *more: str) -> list[dict[str, object]]:
        config = tmp_path / "agent.toml"
        config.write_text(f'bundle = "{bundle}"\nstate = "state"\ndevice = "press-1"\ninterval = 5\n{text}')
        command = [*AGENT, "--config", str(config), *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    begin.bundle = bundle  # type: ignore[attr-defined]
    return begin


def test_every_part_that_a_trigger_announces_gets_exactly_one_answer(run) -> None:
    lines = run(
        'source = "synthetic:size=64,fps=50"\ntrigger = "sensor:parts_per_minute=600,jitter=0.3,seed=2"\n'
        '[line]\nstdout = true\ndeadline_ms = 90\nlate = "reject"\n',
        "--frames",
        "25",
    )
    assert sorted(line["frame"] for line in lines) == list(range(len(lines))) and len(lines) >= 25
    assert all(line["part"] == line["frame"] for line in lines)
    answered = [line for line in lines if line["label"]]
    assert len(answered) == 25 and not any(line["late"] for line in answered)
    assert all(line["decision"] == "reject" and line["late"] and line["reason"] for line in lines if not line["label"])


def test_an_open_breaker_tells_the_line_what_is_safe_and_the_reports_go_on(run, tmp_path: Path) -> None:
    artifact = read_bundle(run.bundle).manifest.artifacts[0]
    memory = msgspec.json.encode(_Memory(learning=Learning(since_ms=0), level=2))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / f"drift-{artifact.model_id.hex()}.json").write_bytes(memory)
    lines = run(
        'source = "synthetic:size=64,frames=10"\n[line]\nstdout = true\nsafe = "reject"\n[breaker]\non_drift = "safe"\n'
    )
    assert len(lines) == 10 and all(line["decision"] == "reject" and not line["label"] for line in lines)
    assert all("drift" in line["reason"] for line in lines)


def test_two_cameras_say_which_of_them_speaks(run) -> None:
    lines = run(
        'source = "synthetic:frames=6"\n[[camera]]\ndevice = "press-2"\nsource = "synthetic:frames=4"\n',
        "--verdicts",
        "-",
    )
    assert sorted(line["device"] for line in lines) == ["press-1"] * 6 + ["press-2"] * 4
