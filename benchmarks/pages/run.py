"""How soon pages answer when 100,000 devices have reported for a month: overview, a device, its ranges, alerts.

python benchmarks/pages/run.py --folder /tmp/pages                 a month of 100,000 devices in SQLite (17 GiB)
python benchmarks/pages/run.py --folder /tmp/pages --devices 5000  a smaller one
python benchmarks/pages/run.py --store postgresql://...            into an empty PostgreSQL database

The store is made once: 30 days of hours and days of every device, as `fleet.rollup` writes them, and reports of the
last ten minutes. Then each page is asked for 60 times, over HTTP from the page's own process where it has a path, and
median and worst are printed. `--write` puts the table into results-*.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
from sqlalchemy import Engine, text

sys.path.insert(0, str(Path(__file__).parents[1] / "ingest"))
import plant

from device_agent.contract.alert import Alert
from device_agent.contract.report import read_report
from fleet.history import read_history, read_span
from fleet.models import write_models
from fleet.overview import Asked
from fleet.rollup import DAY_MS, HOUR_MS, ROLLED, Sums
from fleet.schema import ALERT, DETECTOR, DEVICE, META, REPORT, ROLLUP, SPOOL
from fleet.status import read_status
from fleet.store import append, open_store, shown

HERE = Path(__file__).parent
CLASSES, RECENT_MIN, TRIALS, SEED = 10, 10, 60, 3
BATCH = 200_000


def fill(engine: Engine, devices: int, days: int, now_ms: int, say: Callable[[str], None]) -> None:
    """A store as a monitor would have it that has served these devices for so many days."""
    names = [place.device for place in plant.places(devices)]
    model = plant.model(CLASSES)
    reports = [payload for _, payload in islice(plant.minute(min(devices, 2000), 1, CLASSES, SEED), 2000)]
    with engine.begin() as tx:
        tx.execute(text("DROP INDEX rollup_time"))
        write_models(tx, [model])
        _devices(tx, names, model.model, now_ms)
        _recent(tx, names, reports, now_ms)
        tx.execute(META.insert().values(key=ROLLED, value=str(now_ms // HOUR_MS * HOUR_MS)))
    began_s, done = time.monotonic(), 0
    rows = _sums(names, model.model, reports, days, now_ms)
    while part := list(islice(rows, BATCH)):
        with engine.begin() as tx:
            append(tx, ROLLUP, tuple(column.name for column in ROLLUP.c), part)
        done += len(part)
        say(f"{done:,} sums, {done / (time.monotonic() - began_s):,.0f} a second")
    with engine.begin() as tx:
        tx.execute(text("CREATE INDEX rollup_time ON rollup (span, start_ms)"))
        tx.execute(text("ANALYZE"))


def _devices(tx, names: list[str], model: str, now_ms: int) -> None:
    rng = np.random.default_rng(SEED)
    quiet = rng.random(len(names)) < 0.002
    rows = [
        (place.device, place.site, place.line, place.product, True, now_ms - 30 * DAY_MS,
         now_ms - (10**7 if gone else 9000), 65_536, True, now_ms - 10**8, "", model, "1.0", "litert", "", 60_000,
         43_200, 25_920_000, 0, None, 0)
        for place, gone in zip(plant.places(len(names)), quiet.tolist(), strict=True)
    ]  # fmt: skip
    columns = (
        "device", "site", "line", "product", "imported", "first_seen_ms", "last_report_ms", "session", "online",
        "state_ms", "reason", "model", "agent", "runtime", "hardware", "interval_ms", "reports", "frames", "dropped",
        "quality", "batch",
    )  # fmt: skip
    append(tx, DEVICE, columns, rows)
    append(tx, SPOOL, ("device", "epoch", "contiguous", "missing"), [(name, 1, 43_200, 0) for name in names])
    reading = {
        "model": model, "at_ms": now_ms, "score": 1.5, "warn_at": 17.7, "page_at": 20.7, "level": 0, "frozen": False,
        "armed": True, "stream": "low+", "onset_ms": now_ms, "log_e": 1.5, "ratio": 1.1, "ratio_low": 0.9,
        "ratio_high": 1.3, "independent": 40.0, "peers": 19, "windows": 43_200, "excess": None, "alone": None,
    }  # fmt: skip
    state, peers = bytes(400), bytes(432)
    rows = [(name, model, now_ms, state, peers, json.dumps({"device": name} | reading), False, None) for name in names]
    append(tx, DETECTOR, ("device", "model", "updated_ms", "state", "peers", "reading", "hot", "alone"), rows)
    for number in range(40):
        closed = None if number < 12 else now_ms - number * HOUR_MS
        name = names[number * 97 % len(names)]
        alert = Alert(
            id=f"{number:012x}", severity="page" if number % 3 else "warn", scope_kind="device", scope=name,
            site=f"site-{number}", model=model, stream="low+", opened_ms=now_ms - 2 * DAY_MS,
            onset_ms=now_ms - 2 * DAY_MS, updated_ms=now_ms, text=f"{name}: low confidence", devices=[name],
            closed_ms=closed,
        )  # fmt: skip
        document = msgspec.json.encode(alert).decode()
        tx.execute(ALERT.insert().values(id=alert.id, opened_ms=alert.opened_ms, closed_ms=closed, document=document))


def _recent(tx, names: list[str], reports: list[bytes], now_ms: int) -> None:
    columns = (
        "device", "epoch", "sequence", "first", "at_ms", "received_ms", "interval_ms", "model", "frames", "dropped",
        "score", "payload", "batch", "live",
    )  # fmt: skip
    model = read_report(reports[0]).model.hex()
    for minute in range(RECENT_MIN):
        at_ms = now_ms - (RECENT_MIN - minute) * 60_000
        rows = [
            (name, 1, 43_190 + minute, 43_190 + minute, at_ms, at_ms, 60_000, model, 600, 0, 0.4,
             reports[k % len(reports)], at_ms + k * 60_000 // len(names), True)
            for k, name in enumerate(names)
        ]  # fmt: skip
        append(tx, REPORT, columns, rows)


def _sums(names: list[str], model: str, reports: list[bytes], days: int, now_ms: int) -> Iterator[tuple]:
    """Rows of every device by the key of the table: days, then hours. Hours differ as those of 200 sets of reports."""
    encode = msgspec.msgpack.encode
    stock = []
    for k in range(200):
        sums = Sums()
        for j in range(60):
            sums.add_report(read_report(reports[(60 * k + j) % len(reports)]), 0.4)
        stock.append((*(getattr(sums, name) for name in ("reports", "frames", "dropped", "parts", "same", "score")),
                      *(encode(getattr(sums, name)) for name in ("cells", "infer", "quality"))))  # fmt: skip
    until = now_ms // HOUR_MS * HOUR_MS
    for number, name in enumerate(sorted(names)):
        for span, step, count in (("d", DAY_MS, days), ("h", HOUR_MS, 24 * days)):
            first = until // step * step - count * step
            for k in range(count):
                yield (name, span, first + k * step, model, *stock[(number + k) % len(stock)])


def measure(engine: Engine, store: str, devices: int, now_ms: int) -> list[tuple[str, float, float]]:
    """What, median and worst in ms."""
    rng = np.random.default_rng(SEED)
    names = [place.device for place in plant.places(devices)]

    def some() -> str:
        return names[int(rng.integers(devices))]

    def read(work: Callable[[object], object]) -> Callable[[], object]:
        def once() -> object:
            with engine.connect() as tx:
                return work(tx)

        return once

    asked = {
        "overview, the worst 50 devices": Asked(order="urgency", limit=50),
        "overview, page 1000": Asked(order="urgency", limit=50, offset=min(50_000, devices // 2)),
        "overview, search": Asked(search="77", order="urgency", limit=50),
        "overview, one site": Asked(site=plant.places(devices)[0].site, order="urgency", limit=50),
        "overview, silent ones": Asked(health="silent", order="urgency", limit=50),
    }
    found = [(name, *_timed(read(lambda tx, one=one: read_status(tx, now_ms, one)))) for name, one in asked.items()]
    found.append(("device, last reports", *_timed(read(lambda tx: read_history(tx, some())))))
    for name, days in (("24 hours", 1), ("7 days", 7), ("30 days", 30)):
        found.append((f"device, {name}", *_timed(read(lambda tx, days=days: read_span(tx, some(), days, now_ms)))))
    with _page(store) as port:
        base = f"http://127.0.0.1:{port}"
        for name, path in (
            ("HTTP /", lambda: "/"),
            ("HTTP /device/NAME", lambda: f"/device/{some()}"),
            ("HTTP /alerts", lambda: "/alerts"),
            ("HTTP /api/status?limit=50", lambda: "/api/status?limit=50"),
            ("HTTP /api/devices/NAME", lambda: f"/api/devices/{some()}"),
        ):
            found.append((name, *_timed(lambda path=path: urllib.request.urlopen(base + path(), timeout=60).read())))
    return found


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    work()
    spent = []
    for _ in range(TRIALS):
        began_s = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - began_s))
    return statistics.median(spent), max(spent)


class _page:
    """The page's process."""

    def __init__(self, store: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        command = [sys.executable, "-m", "fleet.web", str(self._listener.fileno()), store, "127.0.0.1"]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[self._listener.fileno()])

    def __enter__(self) -> int:
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=60).read()
        return self.port

    def __exit__(self, *_: object) -> None:
        self._child.stdin.close()
        self._child.wait(10)
        self._listener.close()


def main() -> None:
    """Make the store where it is not there, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/lineside-pages"))
    parser.add_argument("--store", help="of PostgreSQL, empty or made by this before")
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--write", action="store_true", help="results-sqlite.md or results-postgresql.md here")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    store = options.store or f"sqlite:///{options.folder}/{options.devices}x{options.days}.db"
    engine = open_store(store, create=True)
    with engine.begin() as tx:
        made = tx.scalar(META.select().with_only_columns(META.c.value).where(META.c.key == ROLLED))
    now_ms = time.time_ns() // 1_000_000 if made is None else int(made) + HOUR_MS // 2
    now_ms = now_ms // HOUR_MS * HOUR_MS + HOUR_MS // 2
    if made is None:
        fill(engine, options.devices, options.days, now_ms, lambda line: print(line, file=sys.stderr, flush=True))
    sums = 25 * options.days * options.devices
    kind = engine.dialect.name
    rows = [f"| {name} | {median:.1f} | {worst:.1f} |" for name, median, worst in
            measure(engine, store, options.devices, now_ms)]  # fmt: skip
    lines = [
        f"# Pages of {options.devices:,} devices after {options.days} days, {kind}",
        "",
        f"Measured on {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with "
        f"other work. {sums:,} hours and days of {CLASSES} classes, reports of {RECENT_MIN} minutes, 12 open alerts. "
        f"{TRIALS} times each, seed {SEED}. HTTP is from the page's own process, which answers with the page's frame "
        "and first content.",
        "",
        "| what | median, ms | worst, ms |",
        "| --- | --- | --- |",
        *rows,
        "",
        "Aim: any page of one device under 100 ms, the overview under 1 s.",
    ]
    print("\n".join(lines))
    print(shown(engine), file=sys.stderr)
    if options.write:
        (HERE / f"results-{kind}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
