"""Boards that are slowed down say so in different places; one that cannot is unknown."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from device_agent.telemetry import Telemetry
from device_agent.throttling import Throttling

FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
COOLING = "sys/class/thermal/cooling_device"


def write(root: Path, **files: str) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


@pytest.mark.parametrize(
    ("files", "throttled"),
    [
        ({}, None),
        ({FIRMWARE: "50005\n"}, True),
        ({FIRMWARE: "50000\n"}, False),  # it was once, and is not any more
        ({FIRMWARE: "8"}, True),
        ({FIRMWARE: "?"}, None),
        ({"sys/class/hwmon/hwmon1/name": "rpi_volt\n", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"}, True),
        ({"sys/class/hwmon/hwmon1/name": "rpi_volt\n", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n"}, False),
        ({"sys/class/hwmon/hwmon1/name": "nct6775\n", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"}, None),
        ({f"{COOLING}0/type": "cpufreq-cpu0\n", f"{COOLING}0/cur_state": "2\n"}, True),
        ({f"{COOLING}0/type": "thermal-cpufreq-0\n", f"{COOLING}0/cur_state": "0\n"}, False),
        ({f"{COOLING}3/type": "devfreq-17000000.gpu\n", f"{COOLING}3/cur_state": "1\n"}, True),
        ({f"{COOLING}3/type": "gpu-throttle-alert\n", f"{COOLING}3/cur_state": "1\n"}, True),
        ({f"{COOLING}1/type": "pwm-fan\n", f"{COOLING}1/cur_state": "4\n"}, None),
        ({f"{COOLING}1/type": "intel_powerclamp\n", f"{COOLING}1/cur_state": "-1\n"}, None),
        ({f"{COOLING}1/type": "cpufreq-cpu0\n", f"{COOLING}1/cur_state": "hot\n"}, None),
        ({FIRMWARE: "0", f"{COOLING}0/type": "cpufreq-cpu0", f"{COOLING}0/cur_state": "1"}, True),
    ],
)
def test_what_sysfs_says(tmp_path, files, throttled):
    write(tmp_path, **files)
    assert Throttling(tmp_path, program="").now() is throttled
    assert Telemetry(tmp_path, tmp_path).read().throttled is throttled


def test_over_current_of_a_jetson_is_what_was_counted_since(tmp_path):
    counter = "sys/class/hwmon/hwmon4/oc3_event_cnt"
    write(tmp_path, **{counter: "1\n", "sys/class/hwmon/hwmon4/oc1_event_cnt": "0\n"})
    board = Throttling(tmp_path, program="")
    assert board.now() is False, "it happened before"
    write(tmp_path, **{counter: "3\n"})
    assert [board.now(), board.now()] == [True, False]


@pytest.fixture
def vcgencmd(tmp_path):
    """A board with the firmware's device, and a program that does what it is told."""

    def make(script: str) -> Throttling:
        write(tmp_path, **{"dev/vcio": "", "vcgencmd": f"#!/bin/sh\necho x >> {tmp_path}/calls\n{script}\n"})
        (tmp_path / "vcgencmd").chmod(0o755)
        return Throttling(tmp_path, program=str(tmp_path / "vcgencmd"))

    return make


def test_the_firmware_is_asked_by_its_program_where_no_file_says_it(tmp_path, vcgencmd):
    board = vcgencmd('[ "$1" = get_throttled ] && echo throttled=0x50005')
    assert [board.now(), board.now()] == [True, True]
    assert vcgencmd("echo throttled=0x50000").now() is False


@pytest.mark.parametrize(
    "script", ["exec sleep 30", "exit 1", "echo VCHI initialization failed", "echo throttled=0xzz"]
)
def test_a_program_that_hangs_or_fails_is_asked_once(tmp_path, vcgencmd, script):
    board, began = vcgencmd(script), time.monotonic()
    assert [board.now() for _ in range(3)] == [None] * 3
    assert time.monotonic() - began < 10, "and cut short"
    assert (tmp_path / "calls").read_text() == "x\n"


def test_the_program_is_not_asked_on_another_board(tmp_path, vcgencmd):
    board = vcgencmd("echo throttled=0x5")
    (tmp_path / "dev/vcio").unlink()
    assert board.now() is None and not (tmp_path / "calls").exists()
    assert Throttling(tmp_path, program="/no/such/program").now() is None


def test_a_coral_that_is_hotter_than_the_board_counts(tmp_path):
    write(tmp_path, **{"sys/class/thermal/thermal_zone0/temp": "48312\n", "sys/class/apex/apex_0/temp": "71250\n"})
    assert Telemetry(tmp_path, tmp_path).read().temperature_c == 71
    write(tmp_path, **{"sys/class/apex/apex_0/temp": "unavailable"})
    assert Telemetry(tmp_path, tmp_path).read().temperature_c == 48
