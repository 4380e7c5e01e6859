"""The monitor killed again and again during ingest, and PostgreSQL crashed meanwhile: nothing lost, nothing twice.

python benchmarks/ingest/kills.py [--store sqlite|postgres|both] [--kills 200] [--crashes 12] [--devices 60] [--seed 1]
                                  [--write]

A real Mosquitto, `lineside-fleet serve` as a process of its own, and devices that keep each report until it is
acknowledged. The monitor is killed with SIGKILL at moments drawn from the seed: some while it starts and takes up what
it stored, most while it ingests. Afterwards every report that was made must be in the store once, be counted once in
the sums of its device, and have been judged once. `--write` puts what was measured into kills.md beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import plant
from postgres import Postgres
from sender import Sender
from sqlalchemy import Engine, func, select

from fleet.chaos.programs import HOST, Broker, Program, find_broker, python
from fleet.models import write_models
from fleet.reading import Reading
from fleet.registry import import_places
from fleet.schema import DETECTOR, DEVICE, QUARANTINE, REPORT, SPOOL
from fleet.store import open_store

RESULTS = Path(__file__).with_name("kills.md")
SETTLE_S, STARTED_S = 180.0, 60.0
EARLY = 0.25
"""Share of the kills that come while the monitor starts."""


class Books(NamedTuple):
    """What the store says: reports and their frames, the reports that devices' sums count, frames of these, the windows
    that the detector has judged, sequences that were acknowledged, those passed as lost, and messages in quarantine."""

    stored: int
    frames: int
    counted: int
    counted_frames: int
    judged: int
    contiguous: int
    passed: int
    quarantined: int


class Result(NamedTuple):
    """One run; in reports but for the first five."""

    store: str
    kills: int
    crashes: int
    ended_itself: int
    resent: int
    made: int
    waiting: int
    books: Books
    seconds: float

    @property
    def faults(self) -> list[str]:
        """What does not add up; empty if all is well."""
        books, frames = self.books, self.made * plant.FRAMES
        due = {
            "stored": (books.stored, self.made),
            "frames stored": (books.frames, frames),
            "counted": (books.counted, self.made),
            "frames counted": (books.counted_frames, frames),
            "judged": (books.judged, self.made),
            "acknowledged": (books.contiguous, self.made),
            "passed as lost": (books.passed, 0),
            "in quarantine": (books.quarantined, 0),
            "not acknowledged": (self.waiting, 0),
        }
        return [f"{what}: {found} instead of {right}" for what, (found, right) in due.items() if found != right]


class Scene:
    """Broker, store, devices and the monitor, in a folder."""

    def __init__(self, folder: Path, kind: str, *, devices: int, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.rng = random.Random(seed)
        self.broker = Broker(find_broker("mosquitto"), folder)
        self.broker.start()
        self.broker.await_listening()
        self.server = Postgres(folder / "postgres") if kind == "postgres" else None
        if self.server is not None:
            self.server.start()
        self.url = self.server.url if self.server else f"sqlite:///{folder / 'fleet.db'}"
        self.engine = open_store(self.url, create=True)
        with self.engine.begin() as tx:
            write_models(tx, [plant.model(2)])
            import_places(tx, plant.places(devices))
        self.monitor = Program(self._serve, folder / "monitor.log")
        self.sender = Sender(self.broker.port, devices, seed=seed)
        self.sender.introduce()
        self.kills = self.crashes = self.died = 0

    def _serve(self, _number: int) -> list[str]:
        broker = f"mqtt://{HOST}:{self.broker.port}"
        return python("fleet.cli", "serve", "--broker", broker, "--store", self.url, "--port", "0")

    def await_ack(self, patience_s: float = STARTED_S) -> None:
        """Return when something was acknowledged after now; a monitor that ended by itself is started again."""
        before, end_s = self.sender.acks, time.monotonic() + patience_s
        while self.sender.acks == before:
            if time.monotonic() > end_s:
                raise TimeoutError(f"nothing was acknowledged for {patience_s:g} s")
            self.tend()
            time.sleep(0.02)

    def tend(self) -> None:
        """As a supervisor does: start what ended by itself."""
        if self.monitor.note_death():
            self.died += 1
            time.sleep(0.2)
            self.monitor.start()

    def torment(self, kills: int, crashes: int) -> None:
        """Kill the monitor so often, and crash PostgreSQL under it now and then."""
        at = set(self.rng.sample(range(kills), min(crashes, kills))) if self.server else set()
        for number in range(kills):
            if self.monitor.process is None:
                self.monitor.start()
            if self.rng.random() < EARLY:
                time.sleep(self.rng.uniform(0.0, 2.5))
            else:
                self.await_ack()
                time.sleep(self.rng.expovariate(1 / 0.3))
            if number in at and self.server is not None:
                self.server.crash()
                self.crashes += 1
                time.sleep(self.rng.uniform(0.0, 1.5))
                self.server.start()
                self.await_ack()
            self.tend()
            self.monitor.kill()
            self.kills += 1

    def settle(self, made: int) -> Books:
        """What the store says once everything is acknowledged and counted, or nothing was for `SETTLE_S`."""
        self.monitor.start()
        least, end_s = made, time.monotonic() + SETTLE_S
        while time.monotonic() < end_s:
            self.tend()
            self.sender.remind()
            if (waiting := self.sender.waiting) < least:
                least, end_s = waiting, time.monotonic() + SETTLE_S
            books = read_books(self.engine)
            if not self.sender.waiting and (books.stored, books.counted, books.judged, books.contiguous) == (made,) * 4:
                break
            time.sleep(0.5)
        self.monitor.stop()
        return read_books(self.engine)

    def close(self) -> None:
        """End everything."""
        self.sender.close()
        for program in (self.monitor, self.broker):
            program.kill()
        self.engine.dispose()
        if self.server is not None:
            self.server.stop()


def read_books(engine: Engine) -> Books:
    """What the store says."""
    with engine.connect() as tx:
        held = tx.execute(select(func.count(), func.coalesce(func.sum(REPORT.c.frames), 0))).one()
        said = tx.execute(select(func.sum(DEVICE.c.reports), func.sum(DEVICE.c.frames))).one()
        judged = sum(msgspec.json.decode(text, type=Reading).windows for text in tx.scalars(select(DETECTOR.c.reading)))
        marks = tx.execute(
            select(func.coalesce(func.sum(SPOOL.c.contiguous), 0), func.coalesce(func.sum(SPOOL.c.missing), 0))
        ).one()
        quarantined = tx.scalar(select(func.coalesce(func.sum(QUARANTINE.c.times), 0)))
    return Books(*(int(value or 0) for value in (*held, *said, judged, *marks, quarantined)))


def rehearse(
    folder: Path, kind: str, *, kills: int, crashes: int, devices: int, seed: int, pace_s: float = 0.25,
    say: Callable[[str], None] = lambda _line: None,
) -> Result:  # fmt: skip
    """One run on one kind of store."""
    begun_s, scene = time.monotonic(), Scene(folder, kind, devices=devices, seed=seed)
    try:
        scene.monitor.start()
        scene.sender.begin(pace_s)
        scene.await_ack()
        done = 0
        while done < kills:
            some = min(10, kills - done)
            scene.torment(some, round(crashes * (done + some) / kills) - scene.crashes)
            done += some
            say(f"{kind}: {scene.kills} kills, {scene.crashes} crashes, {scene.sender.made} rounds")
        scene.sender.end()
        made = scene.sender.made * devices
        books = scene.settle(made)
        waiting, resent = scene.sender.waiting, scene.sender.resent
    finally:
        scene.close()
    spent_s = time.monotonic() - begun_s
    return Result(kind, scene.kills, scene.crashes, scene.died, resent, made, waiting, books, spent_s)


def table(results: list[Result]) -> str:
    """In Markdown."""
    heads = (
        "store", "kills", "PostgreSQL crashed", "ended by itself", "sent again", "made", "stored", "counted", "judged",
        "acknowledged", "passed as lost", "in quarantine", "minutes",
    )  # fmt: skip
    rows = [
        (r.store, r.kills, r.crashes, r.ended_itself, r.resent, r.made, r.books.stored, r.books.counted, r.books.judged,
         r.books.contiguous, r.books.passed, r.books.quarantined, f"{r.seconds / 60:.1f}")
        for r in results
    ]  # fmt: skip
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (heads, ["---"] * len(heads), *rows))


def main() -> None:
    """Rehearse, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--crashes", type=int, default=12)
    parser.add_argument("--devices", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pace", type=float, default=0.25, help="seconds between the reports of a device")
    parser.add_argument("--keep", type=Path, help="folder for stores and logs; default: a temporary one")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    kinds = ("sqlite", "postgres") if given.store == "both" else (given.store,)
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        for kind in kinds:
            results.append(
                rehearse(
                    (given.keep or Path(temporary)) / kind, kind, kills=given.kills, crashes=given.crashes,
                    devices=given.devices, seed=given.seed, pace_s=given.pace,
                    say=lambda line: print(line, file=sys.stderr),
                )
            )  # fmt: skip
    faults = [f"{result.store}: {fault}" for result in results for fault in result.faults]
    today = datetime.datetime.now(datetime.timezone.utc).date()
    text = "\n".join(
        [
            "# The monitor killed during ingest",
            "",
            f"Measured on {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared "
            f"with other work. Date: {today}. Seed {given.seed}, {given.devices} devices, a report each {given.pace:g} "
            "s.",
            "",
            table(results),
            "",
            "Made, stored, counted (in the sums of their devices), judged (by the detector) and acknowledged are in "
            "reports, sent again in messages. Aim: all five the same, nothing passed as lost, nothing in quarantine: "
            f"{'met' if not faults else 'missed: ' + '; '.join(faults)}.",
            "",
        ]
    )
    print(text)
    if given.write:
        RESULTS.write_text(text)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
