"""What a fleet needs of its monitor: measured a report and a device, and from these a table for fleets of any size.

python benchmarks/ingest/capacity.py --write          about 4 minutes

Fills a store of each kind by the monitor's own ingest with the reports of an hour, sums that hour, and looks how much
the store has grown; the process's CPU and memory are taken on the way. `--write` makes capacity.md of it.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import plant
from postgres import Postgres
from sqlalchemy import Engine, text

from fleet.detector_fleet import Settings
from fleet.inbox import Message, read_batch
from fleet.ingest import Ingest
from fleet.models import write_models
from fleet.registry import import_places
from fleet.rollup import HOUR_MS, LATE_MS, roll
from fleet.store import open_store

HERE = Path(__file__).parent
DEVICES, WARM, HOUR, SEED = 4_000, 1_000, 60, 3
FLEETS = (100, 1_000, 10_000, 100_000)
TOGETHER = 500
"""Reports of a batch: what comes in a quarter of a second to a third of a second from 100,000 devices."""


def measure(kind: str, classes: int) -> dict[str, float]:
    """Bytes on disk a report and a device's hour, CPU in us a report and bytes of memory a device."""
    with tempfile.TemporaryDirectory(prefix="lineside-capacity-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        url = f"sqlite:///{folder}/fleet.db"
        if kind == "postgres":
            server = Postgres(folder / "postgres")
            server.start()
            stack.callback(server.stop)
            url = server.url
        engine = open_store(url, create=True)
        with engine.begin() as tx:
            write_models(tx, [plant.model(classes)])
            import_places(tx, plant.places(DEVICES))
        ingest = Ingest(engine, Settings())
        _feed(ingest, 1, 2, classes, WARM)  # what the program takes once
        memory = _memory()
        _feed(ingest, 1, 2, classes)  # what a device takes once
        memory, first = _memory() - memory, _bytes(engine, folder)
        spent_s = _feed(ingest, 2, HOUR + 1, classes)
        reports = _bytes(engine, folder)
        with engine.begin() as tx:
            while roll(tx, plant.START_MS + 2 * HOUR_MS + LATE_MS, spend_s=60.0):
                pass
        sums = _bytes(engine, folder)
        engine.dispose()
    return {
        "report": (reports - first) / (DEVICES * (HOUR - 1)),
        "hour": (sums - reports) / DEVICES,
        "cpu_us": 1e6 * spent_s / (DEVICES * (HOUR - 1)),
        "device": memory / (DEVICES - WARM),
    }


def _feed(ingest: Ingest, first: int, last: int, classes: int, devices: int = DEVICES) -> float:
    """Reports of these minutes; CPU seconds without those of making them."""
    spent_s = 0.0
    for minute in range(first, last):
        now_ms = plant.START_MS + minute * plant.INTERVAL_MS
        messages = [Message(topic, payload, now_ms) for topic, payload in plant.minute(devices, minute, classes, SEED)]
        for start in range(0, len(messages), TOGETHER):
            before_s = time.process_time()
            ingest.process(read_batch(messages[start : start + TOGETHER]), now_ms + start)
            spent_s += time.process_time() - before_s
    return spent_s


def _bytes(engine: Engine, folder: Path) -> int:
    """Size of the store on disk, its log written out."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as tx:
            return int(
                tx.scalar(text("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'")) or 0
            )
    with engine.connect() as tx:
        tx.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    return (folder / "fleet.db").stat().st_size


def _memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def tables(found: dict[tuple[str, int], dict[str, float]]) -> str:
    """What was measured, and what follows for fleets."""
    lines = ["## Measured", "", "| store | classes | disk a report, bytes | disk a device and hour summed, bytes | "
             "CPU a report, us | memory a device, KiB |", "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for (kind, classes), one in found.items():
        lines.append(f"| {kind} | {classes} | {one['report']:.0f} | {one['hour']:.0f} | {one['cpu_us']:.0f} | "
                     f"{one['device'] / 1024:.1f} |")  # fmt: skip
    lines += ["", "CPU without the connection and the database server's own; memory on top of a program's 150 MiB.",
              "", "## Predicted from these", "",
              "One report a minute of each device, ten classes. Disk: what a day adds; single reports go when their "
              "time is over, sums of hours stay.", "",
              "| devices | reports/s | of a core | memory | reports a day, SQLite | PostgreSQL | sums a day, SQLite | "
              "PostgreSQL |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    lite, big = found["sqlite", 10], found["postgres", 10]
    for devices in FLEETS:
        rate = devices / 60
        gb = [devices * 1440 * one["report"] / 1e9 for one in (lite, big)]
        gb += [devices * 24 * one["hour"] / 1e9 for one in (lite, big)]
        disk = " | ".join(f"{one:,.2f} GB" if one < 10 else f"{one:,.0f} GB" for one in gb)
        lines.append(f"| {devices:,} | {rate:,.0f} | {rate * lite['cpu_us'] / 1e6:.1%} | "
                     f"{150 + devices * lite['device'] / 2**20:,.0f} MiB | {disk} |")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make capacity.md of it")
    options = parser.parse_args()
    found = {}
    for kind in ("sqlite", "postgres"):
        for classes in (2, 10):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:  # another one's memory is used again
                found[kind, classes] = fresh.submit(measure, kind, classes).result()
            print(kind, classes, {name: round(value, 1) for name, value in found[kind, classes].items()}, flush=True)
    said = tables(found)
    print(said)
    if options.write:
        head = (
            f"# What a fleet needs of its monitor\n\n{os.cpu_count()} cores, {platform.machine()}, Python "
            f"{platform.python_version()}, shared with other work. Date: {date.today()}. "
            f"`benchmarks/ingest/capacity.py`, {DEVICES:,} devices, {HOUR} reports each, seed {SEED}.\n\n"
        )
        (HERE / "capacity.md").write_text(head + said + "\n")


if __name__ == "__main__":
    main()
