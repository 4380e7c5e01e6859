"""How fast one worker takes reports in, from a real Mosquitto into the store, beside subscribers that only count.

python benchmarks/ingest/rate.py --write          about 3 minutes

All in one run: the same packets of 10,000 devices with 10 classes, published as fast as the broker takes them, to a
bare paho-mqtt and a bare gmqtt subscriber and to `lineside-fleet serve`. A monitor's rate is from the first report that
comes to the commit of the last one: decoded, judged, stored, and then acknowledged. Its devices are known: each has
sent one report before. Every program is measured `--times` times; the median counts. `--write` makes rate.md of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import plant
import wire
from load import broker, cpu_s, monitor
from postgres import Postgres
from sqlalchemy import func, select

from fleet.models import write_models
from fleet.registry import import_places
from fleet.schema import REPORT
from fleet.store import open_store

HERE = Path(__file__).parent
DEVICES, MINUTES, CLASSES, SEED = 10_000, 9, 10, 1
APART_MS = 100
GOAL_SAME, GOAL_FASTEST = 0.8, 0.6
PATIENCE_S = 120.0


def bare(library: str, packets: Path) -> dict[str, float]:
    """Messages a second of a subscriber that only counts, and its CPU in us a message."""
    with tempfile.TemporaryDirectory() as name, broker(Path(name)) as port:
        Path(name).chmod(0o755)
        command = [sys.executable, str(HERE / "wire.py"), library, str(port), str(DEVICES * (MINUTES - 1))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            wire.publish(port, packets)
            found = json.loads(child.stdout.readline())
    return {"rate": found["messages"] / found["wall_s"], "cpu_us": 1e6 * found["cpu_s"] / found["messages"]}


def worker(store: str, first: Path, packets: Path) -> dict[str, float]:
    """Reports a second of a monitor, and the CPU of all its processes in us a report."""
    with tempfile.TemporaryDirectory(prefix="lineside-rate-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        url = f"sqlite:///{folder}/fleet.db"
        if store == "postgres":
            server = Postgres(folder / "postgres")
            server.start()
            stack.callback(server.stop)
            url = server.url
        engine = open_store(url, create=True)
        with engine.begin() as tx:
            write_models(tx, [plant.model(CLASSES)])
            import_places(tx, plant.places(DEVICES))
        port = stack.enter_context(broker(folder))
        pids = stack.enter_context(monitor(port, url, folder, 1))
        wire.publish(port, first)
        _wait(engine, DEVICES)
        time.sleep(3)
        before_ms, before_s = time.time() * 1000, sum(map(cpu_s, pids))
        wire.publish(port, packets)
        reports = DEVICES * (MINUTES - 1)
        _wait(engine, DEVICES + reports)
        ended_ms = time.time() * 1000
        with engine.connect() as tx:
            new = REPORT.c.received_ms >= before_ms
            began_ms = tx.scalar(select(func.min(REPORT.c.received_ms)).where(new))
        time.sleep(1)
        spent_s = sum(map(cpu_s, pids)) - before_s
        engine.dispose()
    return {"rate": 1000 * reports / (ended_ms - began_ms), "cpu_us": 1e6 * spent_s / reports}


def _wait(engine: object, reports: int) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        with engine.connect() as tx:  # type: ignore[attr-defined]
            if tx.scalar(select(func.count()).select_from(REPORT)) >= reports:
                return
        time.sleep(0.1)
    raise SystemExit(f"not all of {reports} reports were stored within {PATIENCE_S:.0f} s")


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Medians, and what they are of the bare subscribers'."""
    rates = {name: statistics.median(one["rate"] for one in runs) for name, runs in found.items()}
    fastest = max(rates["paho-mqtt, bare"], rates["gmqtt, bare"])
    lines = ["| program | messages/s | of bare paho-mqtt | of the fastest bare one | CPU, us each |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, runs in found.items():
        cpu_us = statistics.median(one["cpu_us"] for one in runs)
        same, best = rates[name] / rates["paho-mqtt, bare"], rates[name] / fastest
        lines.append(f"| {name} | {rates[name]:,.0f} | {same:.0%} | {best:.0%} | {cpu_us:.0f} |")
    own = [rate for name, rate in rates.items() if name.startswith("lineside")]
    met = [min(own) >= GOAL_SAME * rates["paho-mqtt, bare"], min(own) >= GOAL_FASTEST * fastest]
    said = ["met" if one else "MISSED" for one in met]
    return "\n".join([*lines, "", f"Aims: {GOAL_SAME:.0%} of the same library's bare subscriber: {said[0]}; "
                      f"{GOAL_FASTEST:.0%} of the fastest one: {said[1]}."])  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="make rate.md of it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        first, packets = Path(name, "first"), Path(name, "packets")
        minutes = (
            message for minute in range(2, MINUTES + 1) for message in plant.minute(DEVICES, minute, CLASSES, SEED)
        )
        wire.write_packets(first, plant.minute(DEVICES, 1, CLASSES, SEED, apart_ms=APART_MS))
        wire.write_packets(packets, minutes)
        programs = {
            "paho-mqtt, bare": lambda: bare("paho", packets),
            "gmqtt, bare": lambda: bare("gmqtt", packets),
            "lineside-fleet serve, SQLite": lambda: worker("sqlite", first, packets),
            "lineside-fleet serve, PostgreSQL": lambda: worker("postgres", first, packets),
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
        for _ in range(options.times):
            for name, measure in programs.items():
                found[name].append(measure())
                print(name, {key: round(value) for key, value in found[name][-1].items()}, file=sys.stderr, flush=True)
    text = table(found)
    print(text)
    if options.write:
        head = (
            f"# How fast one worker takes reports in\n\nMeasured on {os.cpu_count()} cores, {platform.machine()}, "
            f"Python {platform.python_version()}, shared with other work; medians of {options.times} runs. Date: "
            f"{date.today()}. `benchmarks/ingest/rate.py`, {DEVICES:,} devices, {MINUTES - 1} reports each, {CLASSES} "
            f"classes, seed {SEED}. Broker and publisher share the machine.\n\n"
        )
        (HERE / "rate.md").write_text(head + text + "\n")


if __name__ == "__main__":
    main()
