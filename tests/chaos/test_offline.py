"""A day without a broker, and then everything within minutes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "chaos" / "offline.py"


@pytest.mark.slow
@pytest.mark.broker
def test_a_day_arrives_within_five_minutes(tmp_path, mosquitto_program, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("chaos_offline", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "chaos_offline", script)
    spec.loader.exec_module(script)
    arrival = script.measure(tmp_path / "fleet", patience_s=script.AIM_S)
    with capsys.disabled():
        print(f"\n{arrival.reports} reports of a day are stored after {arrival.after_s:.1f} s")
    assert arrival.rows == 1440 and arrival.frames == 1440 * script.FRAMES and arrival.after_s <= 300
