"""Seven simulated days of an agent: does it grow?

    python benchmarks/agent/soak.py [--days 7] [--write]

The agent's own loop, recorder, breaker, self-test, spool and uplink, on a clock that runs as fast as they do: a frame a
second, a report a minute. The broker goes away for half an hour four times a day, and every reconnect is followed by a
backfill. The resident set is read once an hour; what counts is the growth from the end of the first hour to the highest
one after it.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from device_agent.config import Timing
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.manifest import ArtifactManifest, Baseline, Golden, InputSpec, Label
from device_agent.contract.report import read_backfill, read_report
from device_agent.contract.session import Ack
from device_agent.courier import dispatch
from device_agent.drift import BreakerSettings, DriftWatch
from device_agent.frames import Frame
from device_agent.loop import Loop
from device_agent.mqtt import Acknowledged, Connected, Disconnected
from device_agent.recorder import Surroundings
from device_agent.rungs import Rungs
from device_agent.runtimes import logits, open_runtime
from device_agent.salvage import open_spool
from device_agent.station import Outlets, Schedule, Station
from device_agent.telemetry import Telemetry
from device_agent.uplink import Clocks, Uplink

AIM_MIB, SEED, SIDE = 1.0, 0, 32
AWAY_EVERY_S, AWAY_S = 21_600, 1_800
LABELS = [Label("good", "good"), *(Label(f"defect-{k}", "defect") for k in range(1, 5))]


class Clock:
    """Nanoseconds that only pass when told to."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def __call__(self) -> int:
        return self.ns

    @property
    def s(self) -> float:
        return self.ns / 1e9


class Camera:
    """A frame a second, of which every tenth repeats the one before it."""

    def __init__(self, clock: Clock, stop_s: float) -> None:
        self._clock, self._stop_s, self._stamp = clock, stop_s, 0
        self._rng = np.random.default_rng(SEED)
        self._image = self._draw()

    def _draw(self) -> Any:
        return self._rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)

    def next(self, timeout_s: float) -> Frame | None:
        self._clock.ns += 1_000_000_000
        if self._stamp % 10:
            self._image = self._draw()
        self._stamp += 1
        return Frame(self._image, self._stamp, self._clock.ns, self._stamp // 3, 100.0, 50.0)

    def refit(self, spec: InputSpec) -> None: ...


class Broker:
    """Takes everything and acknowledges it, unless it is away."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._up, self.news, self.frames = clock, False, list[Any](), 0

    @property
    def away(self) -> bool:
        return self._clock.s % AWAY_EVERY_S > AWAY_EVERY_S - AWAY_S

    def open(self, will: bytes) -> None:
        self._up = not self.away
        self.news.append(Connected() if self._up else Disconnected("away"))

    def give_up(self) -> None: ...

    def publish(self, kind: str, payload: bytes, **_: Any) -> None:
        if kind in ("report", "backfill"):
            reports = read_backfill(payload) if kind == "backfill" else [read_report(payload)]
            self.frames += sum(report.frames for report in reports)
            self.news.append(Acknowledged(encode(Ack(SCHEMA, reports[-1].epoch, reports[-1].sequence))))

    def close(self, timeout_s: float) -> None: ...

    def step(self, uplink: Uplink) -> None:
        """Hand over what happened, and the ends of connections."""
        if self._up and self.away:
            self._up = False
            self.news.append(Disconnected("the connection ended"))
        while self.news:
            dispatch(self.news.pop(0), uplink)
        uplink.tick()


@click.command()
@click.option("--days", default=7.0, show_default=True)
@click.option("--write", is_flag=True, help="Write soak.md beside this file.")
def main(days: float, write: bool) -> None:
    """Print the table."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        hours, frames, stored = simulate(Path(folder), days)
    growth = max(hours[1:]) - hours[0]
    met = "met" if growth < AIM_MIB else "missed"
    lines = [
        "# Seven simulated days of an agent: measured",
        "",
        f"{days:g} days, {frames:,} frames, {len(hours)} hours; {time.monotonic() - began:.0f} s on the wall."
        f" Frames that the monitor got: {stored:,}.",
        "",
        "| resident set after hour 1, MiB | highest after it | last | growth | aim |",
        "| --- | --- | --- | --- | --- |",
        f"| {hours[0]:.2f} | {max(hours[1:]):.2f} | {hours[-1]:.2f} | {growth:+.2f} | under {AIM_MIB:g}: {met} |",
    ]
    click.echo("\n".join(lines))
    if write:
        Path(__file__).with_name("soak.md").write_text("\n".join(lines) + "\n")


def simulate(folder: Path, days: float) -> tuple[list[float], int, int]:
    """Resident set in MiB after each hour; frames answered, and frames that arrived."""
    clock, end_s = Clock(), days * 86_400
    spec, model = InputSpec(height=SIDE, width=SIDE), folder / "model.json"
    model.write_text('{"classes": 5}')
    runtime = open_runtime("fake", model, spec)
    images = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
    counts = np.zeros((5, 5, 24), np.int64)
    rng = np.random.default_rng(2)
    from device_agent.classify import classify

    for _ in range(3000):
        image = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        answer = classify(logits(runtime, image), 1.0)
        counts[answer.label, answer.label, answer.bin] += 1
    artifact = ArtifactManifest(
        runtime="fake",
        precision="int8",
        files=[],
        input=spec,
        temperature=1.0,
        golden=Golden([logits(runtime, image).tolist() for image in images], 1e-4),
        baseline=Baseline.of(counts, [0.96, 0.01, 0.01, 0.01, 0.01]),
    )
    events = list[str]()

    def event(kind: str, text: str) -> None:
        uplink.tell(kind, text)
        events.append(kind)
        del events[:-10]

    broker = Broker(clock)
    uplink = Uplink(
        lambda: open_spool(folder / "state", lambda *_: None),
        broker,
        timing=Timing.of(60),
        clocks=Clocks(lambda: clock.s, lambda: 1.8e9 + clock.s),
        log=lambda *_: None,
        rng=random.Random(SEED),
    )
    telemetry = Telemetry(folder)
    judge = DriftWatch(LABELS, {artifact.model_id: artifact.baseline}, BreakerSettings(), folder, event)
    station = Station(
        "press-1",
        LABELS,
        Outlets(uplink.report, lambda _: None, event, judge=judge),
        around=lambda: Surroundings(int(1.8e12) + clock.ns // 1_000_000, telemetry.read()),
        schedule=Schedule(60_000_000_000),
    )
    rungs = Rungs([artifact], images, lambda each: open_runtime("fake", model, each.input), event)
    hours: list[float] = []

    def tick() -> None:
        broker.step(uplink)
        if clock.s >= 3600 * (len(hours) + 1):
            hours.append(_rss())

    loop = Loop(Camera(clock, end_s), rungs, rungs.descend(), [station], clock=clock, event=event, tick=tick)
    answered = loop.run(stop=lambda: clock.s >= end_s)
    for _ in range(600):
        clock.ns += 1_000_000_000
        broker.step(uplink)
    return hours, answered, broker.frames


def _rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
