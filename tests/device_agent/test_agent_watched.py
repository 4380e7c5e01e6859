"""The real agent with its ports open, killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest


def fetch(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        return answer.read().decode(errors="replace")


@pytest.fixture
def start(tmp_path, make_bundle, free_port):
    """`start(*more)`: the agent; its /metrics is on `start.metrics`."""
    (tmp_path / "agent.toml").write_text(
        f"""bundle = "{make_bundle()}"
source = "synthetic:size=64,fps=50"
device = "press-1"
state = "state"
interval = 0.5
log = "json"
[preview]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:{free_port}"
"""
    )
    running: list[subprocess.Popen[str]] = []

    def begin(*more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "device_agent", "run", "--config", str(tmp_path / "agent.toml"), *more]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return running[-1]

    begin.metrics = f"http://127.0.0.1:{free_port}/metrics"
    yield begin
    for process in running:
        process.kill()
        process.communicate(timeout=10)


def counts(url: str) -> dict[str, float]:
    try:
        text = fetch(url)
    except OSError:
        return {}
    return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line[0] != "#"}


def test_it_shows_itself_and_knows_after_a_kill_that_it_was_killed(start, tmp_path, eventually):
    first = start()
    eventually(lambda: counts(start.metrics).get('lineside_reports_total{device="press-1"}', 0) >= 2, 30)
    assert counts(start.metrics)['lineside_frames_total{device="press-1"}'] > 10
    assert fetch(start.metrics.replace("metrics", "healthz")) == "ok\n"
    first.send_signal(signal.SIGKILL)
    assert '"preview"' in first.stderr.read()
    second = start("--frames", "20")
    said = second.communicate(timeout=60)[1]
    assert second.returncode == 0 and "the last run ended by a crash, or somebody killed it" in said
    third = start("--frames", "20")
    assert "restarted" not in third.communicate(timeout=60)[1], "the second one ended in order"
    token = (Path(tmp_path) / "state/preview.token").read_text().strip()
    assert token not in said
