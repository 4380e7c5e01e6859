"""Figures come from files; files that are not there are None."""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.report import System
from device_agent.telemetry import Telemetry, clock_synced


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_reads_a_raspberry_pi(tmp_path: Path) -> None:
    write(tmp_path, "proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3\n")
    write(tmp_path, "proc/self/statm", "9000 2560 100 1 0 800 0\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "48312\n")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "51900\n")
    write(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    telemetry = Telemetry(tmp_path, tmp_path)
    write(tmp_path, "proc/stat", "cpu  140 0 110 850 0 0 0 0 0 0\n")
    system = telemetry.read()
    assert (system.cpu_percent, system.temperature_c, system.throttled) == (50, 52, True)
    assert system.rss_mib == 10
    assert system.disk_free_mib is not None and system.disk_free_mib > 0


def test_an_empty_machine_knows_nothing(tmp_path: Path) -> None:
    assert Telemetry(tmp_path / "none", tmp_path).read() == System()


def test_nonsense_is_unknown(tmp_path: Path) -> None:
    write(tmp_path, "proc/stat", "cpu  a b\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "hot\n")
    write(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", "")
    system = Telemetry(tmp_path, tmp_path).read()
    assert (system.cpu_percent, system.temperature_c, system.throttled) == (None, None, None)


def test_the_clock_can_be_asked_without_changing_it() -> None:
    assert clock_synced() in (True, False, None)
