"""How fast a day of 1,000 devices is exported, how large it gets, and whether memory grows with it.

python benchmarks/export/run.py [--devices N ...] [--minutes N] [--postgres URL] [--write]

A store is filled with one report a minute of every device (600 frames, two classes), as they come over the wire but
without the detector; hours and days are summed. Each export then runs as the command does, in a process of its own,
which prints the most memory that it ever held (VmHWM). Everything is in a temporary folder that is removed at the end;
a PostgreSQL database must be empty and keeps what is written to it.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import Engine

from device_agent.contract.files import write_whole
from fleet.ledger import COLUMNS
from fleet.models import write_models
from fleet.registry import import_places
from fleet.rollup import roll
from fleet.schema import REPORT
from fleet.store import append, open_store

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "ingest"))
import plant  # noqa: E402

CLASSES, SEED = 2, 11
DAY_MS = 86_400_000
BEGIN_MS = plant.START_MS // DAY_MS * DAY_MS
EXPORTS = (
    ("reports", "parquet", ()),
    ("reports", "parquet", ()),
    ("hours", "parquet", ()),
    ("reports", "csv", ()),
    ("reports", "jsonl", ()),
    ("reports", "parquet", ("--tidy",)),
)
OF_ALL = 4
"""The first exports are measured for every fleet, the others for the smallest."""
COMMAND = """
import sys
from fleet.cli import cli
cli.main(sys.argv[1:], standalone_mode=False)
with open("/proc/self/status") as file:
    print(next(line for line in file if line.startswith("VmHWM")).split()[1])
"""


class Row(NamedTuple):
    """One export: what it is, devices, rows and MiB on disk, seconds, those of CPU, and MiB of memory at most."""

    store: str
    what: str
    devices: int
    rows: int
    mib: float
    seconds: float
    cpu_s: float
    peak_mib: float


def fill(engine: Engine, devices: int, minutes: int) -> None:
    """Store every report of a day, and the sums of its hours."""
    with engine.begin() as tx:
        write_models(tx, [plant.model(CLASSES)])
        import_places(tx, plant.places(devices))
    for minute in range(1, minutes + 1):
        at_ms, rows = BEGIN_MS + minute * 60_000 - 1, []
        for topic, payload in plant.minute(devices, minute, CLASSES, SEED):
            device = topic.split("/")[-2]
            values = {
                "device": device, "epoch": zlib.crc32(device.encode()), "sequence": minute, "first": minute,
                "at_ms": at_ms, "received_ms": at_ms + 50, "interval_ms": plant.INTERVAL_MS,
                "model": plant.MODEL.hex(), "frames": plant.FRAMES, "dropped": 0, "score": 0.1 * (minute % 7),
                "payload": payload, "batch": at_ms, "live": True,
            }  # fmt: skip
            rows.append(tuple(values[name] for name in COLUMNS))
        with engine.begin() as tx:
            append(tx, REPORT, COLUMNS, rows)
    more = True
    while more:
        with engine.begin() as tx:
            more = roll(tx, BEGIN_MS + 2 * DAY_MS, spend_s=5.0)


def export(url: str, what: str, form: str, more: tuple[str, ...], out: Path) -> tuple[float, float, float]:
    """Seconds, seconds of CPU and MiB of memory at most of one export."""
    words = ["export", "--what", what, "--format", form, *more, "--out", str(out), "--store", url]
    began_s, before_s = time.perf_counter(), children_s()
    done = subprocess.run([sys.executable, "-c", COMMAND, *words], check=True, capture_output=True, text=True)
    return time.perf_counter() - began_s, children_s() - before_s, int(done.stdout.split()[-1]) / 1024


def children_s() -> float:
    """CPU seconds of processes that ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measure(store: str, url: str, devices: int, minutes: int, folder: Path, *, wide: bool) -> list[Row]:
    """Every export of one store."""
    engine = open_store(url, create=True)
    began_s = time.perf_counter()
    fill(engine, devices, minutes)
    print(f"{store}: {devices} devices filled in {time.perf_counter() - began_s:.0f} s", file=sys.stderr)
    rows, seen = [], set()
    for what, form, more in EXPORTS if wide else EXPORTS[:OF_ALL]:
        name = " ".join([what, form, *(word.strip("-") for word in more)])
        out = folder / f"{store}-{devices}" / name.replace(" ", "-")
        seconds, cpu_s, peak_mib = export(url, what, form, more, out)
        parts = msgspec.json.decode((out / "_export.json").read_bytes())["parts"].values()
        size = sum(path.stat().st_size for path in out.rglob("part-0.*"))
        label = f"{name}, again: nothing changed" if name in seen else name
        seen.add(name)
        rows.append(
            Row(store, label, devices, sum(part["rows"] for part in parts), size / 2**20, seconds, cpu_s, peak_mib)
        )
        print(rows[-1], file=sys.stderr)
    engine.dispose()
    return rows


def render(rows: list[Row], minutes: int) -> str:
    """The results as Markdown."""
    lines = [
        "# Export",
        "",
        f"Measured on {platform.machine()}, {os.cpu_count()} cores shared with other work, by `run.py`: {minutes:,} "
        "minutes of one report a minute and device, 600 frames, two classes. Time and memory are those of the whole "
        "command, its start included; rows/s are those of a second of CPU.",
        "",
        "| store | export | devices | rows | MiB | s | CPU s | rows/s | memory at most, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row.store} | {row.what} | {row.devices:,} | {row.rows:,} | {row.mib:.1f} | {row.seconds:.1f} | "
            f"{row.cpu_s:.1f} | {row.rows / row.cpu_s:,.0f} | {row.peak_mib:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--minutes", type=int, default=1440)
    parser.add_argument("--postgres", metavar="URL", help="An empty database, filled with the smallest fleet.")
    parser.add_argument("--write", action="store_true", help="Write results.md.")
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if asked.postgres:
            rows += measure("PostgreSQL", asked.postgres, min(asked.devices), asked.minutes, Path(folder), wide=False)
        for devices in asked.devices:
            url, wide = f"sqlite:///{folder}/{devices}.db", devices == min(asked.devices)
            rows += measure("SQLite", url, devices, asked.minutes, Path(folder), wide=wide)
    text = render(rows, asked.minutes)
    print(text)
    if asked.write:
        write_whole(HERE / "results.md", text)


if __name__ == "__main__":
    main()
