"""What a report costs a worker, and what sharing the fleet costs: CPU of one worker against two, from a payload file.

python benchmarks/ingest/workers.py --store sqlite           one worker
python benchmarks/ingest/workers.py --store postgres         one worker, then two at once on one store

Every device reports each minute; the first minute, in which devices are new, is not counted. CPU is the worker's own
(user and system), without the database's. `--write` puts the table into workers-*.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import plant
from postgres import Postgres
from sqlalchemy import func, select

from device_agent.contract.topics import SHARDS, shard
from fleet.detector_fleet import Settings
from fleet.inbox import Message, read_batch
from fleet.ingest import Ingest
from fleet.leases import Alone, Leases, worker_name
from fleet.models import write_models
from fleet.registry import import_places
from fleet.schema import REPORT
from fleet.store import open_store

HERE = Path(__file__).parent
BATCH, SEED = 2500, 1


def work(url: str, shards: frozenset[int], devices: int, minutes: int, classes: int, go: Path) -> dict[str, float]:
    """Take in what the devices of these shards send; microseconds of CPU and of time a report."""
    engine = open_store(url)
    leases = Leases(engine, worker_name(), only=shards) if engine.dialect.name == "postgresql" else Alone()
    leases.acquire()
    ingest = Ingest(engine, Settings(), leases=leases)
    mine = {plant.name(k) for k in range(devices) if shard(plant.name(k)) in shards}
    messages = [
        Message(topic, payload, plant.START_MS + number * 60_000)
        for number in range(1, minutes + 2)
        for topic, payload in plant.minute(devices, number, classes, SEED)
        if topic.split("/")[4] in mine
    ]
    first = len(messages) // (minutes + 1)
    _take(ingest, leases, messages[:first])
    gc.collect()
    gc.freeze()
    gc.disable()
    go.with_suffix(f".{os.getpid()}").touch()
    while not go.exists():
        time.sleep(0.01)
        leases.acquire()
    cpu_s, began_s = time.process_time(), time.perf_counter()
    _take(ingest, leases, messages[first:])
    count = len(messages) - first
    spent = {"cpu_us": 1e6 * (time.process_time() - cpu_s) / count, "reports": count}
    spent["wall_s"] = time.perf_counter() - began_s
    leases.release()
    return spent


def _take(ingest: Ingest, leases: Leases | Alone, messages: list[Message]) -> None:
    for at in range(0, len(messages), BATCH):
        leases.acquire()
        part = messages[at : at + BATCH]
        ingest.process(read_batch(part), part[0].received_ms)


def run(url: str, workers: int, devices: int, minutes: int, classes: int, folder: Path) -> dict[str, float]:
    """So many workers at once on a new store."""
    engine = open_store(url, create=True)
    with engine.begin() as tx:
        write_models(tx, [plant.model(classes)])
        import_places(tx, plant.places(devices))
    go = folder / f"go-{workers}-{classes}"
    shares = [f"{SHARDS * k // workers}-{SHARDS * (k + 1) // workers - 1}" for k in range(workers)]
    arguments = [str(devices), str(minutes), str(classes), str(go)]
    children = [
        subprocess.Popen([sys.executable, __file__, "work", url, share, *arguments], stdout=subprocess.PIPE, text=True)
        for share in shares
    ]
    while len(list(folder.glob(f"{go.name}.*"))) < workers and all(child.poll() is None for child in children):
        time.sleep(0.05)
    go.touch()
    found = [json.loads(child.communicate()[0]) for child in children]
    with engine.connect() as tx:
        stored = tx.scalar(select(func.count()).select_from(REPORT))
    engine.dispose()
    assert stored == devices * (minutes + 1), f"{stored} reports are stored"
    reports = sum(one["reports"] for one in found)
    cpu_us = sum(one["cpu_us"] * one["reports"] for one in found) / reports
    return {"cpu_us": cpu_us, "rate": reports / max(one["wall_s"] for one in found)}


def main() -> None:
    """One worker, and two where the store can be shared."""
    if sys.argv[1:2] == ["work"]:
        from fleet.leases import parse_shards

        url, share, devices, minutes, classes, go = sys.argv[2:]
        print(json.dumps(work(url, parse_shards(share), int(devices), int(minutes), int(classes), Path(go))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="postgres")
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = []
    for classes in (2, 10):
        best: dict[int, dict[str, float]] = {}
        for _ in range(options.repeats):
            for workers in (1, 2) if options.store == "postgres" else (1,):
                with tempfile.TemporaryDirectory(prefix="lineside-workers-") as name:
                    folder = Path(name)
                    folder.chmod(0o755)
                    url = f"sqlite:///{folder}/fleet.db"
                    server = Postgres(folder / "postgres") if options.store == "postgres" else None
                    if server is not None:
                        server.start()
                        url = server.url
                    one = run(url, workers, options.devices, options.minutes, classes, folder)
                    if server is not None:
                        server.stop()
                    if workers not in best or one["cpu_us"] < best[workers]["cpu_us"]:
                        best[workers] = one
        for workers, one in best.items():
            cpu, rate = one["cpu_us"] / best[1]["cpu_us"], one["rate"] / best[1]["rate"]
            rows.append(
                f"| {classes} | {workers} | {one['cpu_us']:.1f} | {one['rate']:,.0f} | {cpu:.2f} | {rate:.2f} |"
            )
    text = "\n".join([
        f"# What a report costs a worker, {options.store}",
        "",
        f"Measured on {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with "
        f"other work. Date: {date.today()}. {options.devices:,} devices, {options.minutes} minutes, the best of "
        f"{options.repeats}. From reports as they come to what is committed; without MQTT. Two workers share the cores "
        "with each other and with the database.",
        "",
        "| classes | workers | CPU a report, us | reports/s | CPU against one | rate against one |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        "Aim: two workers cost at most 1.15 times the CPU of one; 1.7 times its rate where there are four cores.",
    ])  # fmt: skip
    print(text)
    if options.write:
        (HERE / f"workers-{options.store}.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
