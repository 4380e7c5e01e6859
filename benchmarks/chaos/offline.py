"""A day without a broker, then: how long until the monitor has it all?

python benchmarks/chaos/offline.py [--days 1 30] [--write]

The spool of a device is filled with a report for each minute of the days, by the agent's own spool under a clock of its
own; the days end now. Then a real Mosquitto, a real monitor and a real agent are started. `--write` puts what was
measured into offline.md beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from device_agent.contract.codec import SCHEMA
from device_agent.contract.histogram import BINS, ConfidenceHistogram
from device_agent.contract.report import DeviceReport, ImageQuality
from device_agent.spool import Spool
from fleet.chaos.audit import read_stored
from fleet.chaos.device import Pace
from fleet.chaos.programs import find_broker
from fleet.chaos.rehearsal import Rehearsal
from fleet.store import open_store

RESULTS = Path(__file__).with_name("offline.md")
AIM_S = 300
MINUTES, FRAMES = 1440, 600


class Arrival(NamedTuple):
    """`reports` were written, in which `rows` the spool held them on `size_kib`; all frames were stored `after_s` after
    the agent's start, `frames` of them counted once."""

    reports: int
    rows: int
    size_kib: int
    after_s: float
    frames: int


def fill(path: Path, minutes: int) -> tuple[int, int]:
    """A report for each of the last minutes; rows of the spool, and its size in KiB."""
    rng = np.random.default_rng(1)
    spool = Spool(path, wall=lambda: time.time() - 60 * minutes)
    blank = DeviceReport(SCHEMA, 0, 0, 0, 0, 0, 60_000, b"modelone", FRAMES, 0, 0, 0, 0, ConfidenceHistogram(3, []))
    for minute in range(minutes):
        cells = np.clip(rng.normal(16, 2.5, FRAMES), 0, BINS - 1).astype(int)
        counts = np.bincount(cells, minlength=3 * BINS).reshape(3, BINS)
        spool.add(
            msgspec.structs.replace(
                blank,
                wall_ms=int(1000 * (time.time() - 60 * (minutes - minute))),
                monotonic_ms=60_000 * minute,
                histogram=ConfidenceHistogram.of(counts),
                latency=[[3, FRAMES], [0, FRAMES], [9, FRAMES], [0, FRAMES]],
                quality=ImageQuality(120, 800, 3),
            )
        )
        spool.shrink()
    rows = len(spool.pending(limit=-1))
    spool.close()
    return rows, path.stat().st_size >> 10


def measure(folder: Path, minutes: int = MINUTES, patience_s: float = AIM_S) -> Arrival:
    """From the start of the agent until every frame of the spool is stored.

    Raises:
        TimeoutError: not within `patience_s`.
    """
    pace = Pace(60.0, 10.0, 60)
    stage = Rehearsal(folder, 1, find_broker("mosquitto"), pace, seed=0, say=lambda _: None, bundle=None)
    device = stage.devices[0]
    rows, size_kib = fill(device.state / "spool.db", minutes)
    try:
        stage.broker.start()
        stage.broker.await_listening()
        stage.monitor.start()
        journal = folder / "monitor.log"
        while "connected to" not in journal.read_text():
            time.sleep(0.05)
        start_s = time.monotonic()
        device.start()
        while stage.stored() < rows:
            if time.monotonic() - start_s > patience_s:
                raise TimeoutError(f"{stage.stored()} of {rows} reports are stored after {patience_s:g} s")
            time.sleep(0.1)
        after_s = time.monotonic() - start_s
        reports = read_stored(open_store(stage.url), device.name)
        frames = sum(report.frames for report in reports if report.model == b"modelone")
    finally:
        stage.close()
    return Arrival(minutes, rows, size_kib, after_s, frames)


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, nargs="+", default=[1, 30])
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    lines = [
        "# Days without a broker: how long until the monitor has it all",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with other "
        f"work. Date: {today}. A report a minute with {FRAMES} frames; real Mosquitto, monitor and agent, one machine.",
        "",
        "| days | reports | rows in the spool | spool, KiB | stored after, s | frames stored |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    worst_s = 0.0
    for days in arguments.days:
        with tempfile.TemporaryDirectory() as folder:
            one = measure(Path(folder) / "fleet", days * MINUTES)
        assert one.frames == one.reports * FRAMES, f"{one.frames} of {one.reports * FRAMES} frames"
        worst_s = max(worst_s, one.after_s) if days == 1 else worst_s
        lines.append(f"| {days} | {one.reports} | {one.rows} | {one.size_kib} | {one.after_s:.1f} | {one.frames} |")
    met = "met" if worst_s <= AIM_S else "missed"
    lines += ["", f"Aim: a day within {AIM_S} s: {met} ({worst_s:.1f} s). Every frame is stored once.", ""]
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
