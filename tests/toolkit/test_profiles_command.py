"""`lineside profiles`."""

from __future__ import annotations

import json

from click.testing import CliRunner

from device_agent.contract.errors import NotFound
from toolkit.commands.profiles import profiles


def test_list() -> None:
    shown = CliRunner().invoke(profiles, ["list"], catch_exceptions=False).stdout
    assert "raspberry-pi-zero-2w  Raspberry Pi Zero 2 W" in shown
    listed = json.loads(CliRunner().invoke(profiles, ["list", "--json"]).stdout)
    assert len(listed) >= 9 and {"id", "name", "file"} == set(listed[0])


def test_show_gives_each_figure_its_source_and_names_what_is_unknown() -> None:
    shown = CliRunner().invoke(profiles, ["show", "raspberry-pi-5"], catch_exceptions=False).stdout
    assert "litert-int8 -> onnx-int8 -> litert-fp32" in shown
    assert "2400  [vendor] Raspberry Pi documentation" in shown
    assert "unknown" in next(line for line in shown.splitlines() if "idle_w" in line)
    assert "10.46 ms  [literature] Tencent/ncnn" in shown


def test_show_as_json() -> None:
    document = json.loads(CliRunner().invoke(profiles, ["show", "coral-usb", "--json"]).stdout)
    assert document["budgets"]["p50_ms"] == {
        "value": 50,
        "kind": "estimate",
        "source": "a choice: half of the time of a frame at 10 frames/s",
    }


def test_an_unknown_id() -> None:
    result = CliRunner().invoke(profiles, ["show", "jetson"])
    assert isinstance(result.exception, NotFound) and "known are" in str(result.exception)
