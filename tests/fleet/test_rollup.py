"""Hours and days count what the reports counted, however late these came and whether or not they are still there."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import func, select

from device_agent.contract import topics
from device_agent.contract.codec import encode
from device_agent.merging import merge
from fleet.detector_fleet import Settings
from fleet.inbox import Message, read_batch
from fleet.ingest import Ingest
from fleet.retention import Limits, retain, store_bytes
from fleet.rollup import DAY_MS, HOUR_MS, LATE_MS, Sums, read_sums, roll
from fleet.schema import REPORT, ROLLUP, ROLLUP_DUE, SPOOL

SETTINGS = Settings(interval_ms=600_000)
START_MS = 1_760_000_000_000
MIDNIGHT_MS = START_MS // DAY_MS * DAY_MS


class Line:
    """Devices that report every ten minutes."""

    def __init__(self, plant, names=("press-1", "press-2")) -> None:
        self.engine = plant.open(places=dict.fromkeys(names, ("hall", "plate")))
        self.ingest = Ingest(self.engine, SETTINGS)
        self.speakers = [plant.speaker(name, interval_ms=600_000, seed=k) for k, name in enumerate(names)]
        self.sent: list = []

    def report(self, speaker, *, hold: bool = False):
        made = speaker.report(frames=20)
        self.sent.append((speaker.device, made))
        if not hold:
            self.take(speaker, made)
        return made

    def take(self, speaker, *reports) -> None:
        messages = [
            Message(topics.up(speaker.device, "report"), encode(one), START_MS + one.monotonic_ms) for one in reports
        ]
        self.ingest.process(read_batch(messages), messages[-1].received_ms)

    def fill(self, count: int) -> list:
        """So many reports of the first device, a hundred at a time."""
        made = [self.report(self.speakers[0], hold=True) for _ in range(count)]
        for at in range(0, count, 100):
            self.take(self.speakers[0], *made[at : at + 100])
        return made

    def house(self, now_ms: int) -> None:
        for _ in range(200):
            with self.engine.begin() as tx:
                if not roll(tx, now_ms, spend_s=1.0):
                    return
        pytest.fail("rolling does not end")

    def sums(self, device: str, span: str) -> list[tuple[int, Sums]]:
        with self.engine.begin() as tx:
            return [(start, sums) for start, _, sums in read_sums(tx, device, span, 0, 2**50)]


@pytest.fixture
def line(plant) -> Line:
    return Line(plant)


def expected(line: Line, device: str, span_ms: int) -> dict[int, tuple[int, int]]:
    """Reports and frames by hour or day."""
    found: dict[int, list[int]] = {}
    for name, report in line.sent:
        if name == device:
            start = (START_MS + report.monotonic_ms) // span_ms * span_ms
            mine = found.setdefault(start, [0, 0])
            mine[0] += 1
            mine[1] += report.frames
    return {start: (reports, frames) for start, (reports, frames) in found.items()}


def test_hours_and_days_add_up_to_the_reports(line):
    for _ in range(6 * 30):
        for speaker in line.speakers:
            line.report(speaker)
    now_ms = START_MS + 181 * 600_000 + 2 * DAY_MS
    line.house(now_ms)
    for speaker in line.speakers:
        hours = {start: (sums.reports, sums.frames) for start, sums in line.sums(speaker.device, "h")}
        assert hours == expected(line, speaker.device, HOUR_MS)
        days = {start: (sums.reports, sums.frames) for start, sums in line.sums(speaker.device, "d")}
        assert days == expected(line, speaker.device, DAY_MS)
        counts = sum((np.array(report.histogram.dense()) for name, report in line.sent if name == speaker.device))
        cells: dict[int, int] = {}
        for _, sums in line.sums(speaker.device, "h"):
            for cell, count in sums.cells.items():
                cells[cell] = cells.get(cell, 0) + count
            assert sums.quality[0] == sums.frames and sums.infer and sums.score is not None
        assert cells == {int(k): int(counts.ravel()[k]) for k in np.flatnonzero(counts)}


def test_an_hour_is_summed_ten_minutes_after_its_end_and_again_when_a_report_comes_late(line):
    speaker = line.speakers[0]
    line.report(speaker)
    held = line.report(speaker, hold=True)
    line.report(speaker)
    end_ms = (START_MS + 600_000) // HOUR_MS * HOUR_MS + HOUR_MS
    line.house(end_ms + LATE_MS - 1)
    assert line.sums("press-1", "h") == []
    line.house(end_ms + LATE_MS + HOUR_MS)
    before = sum(sums.reports for _, sums in line.sums("press-1", "h"))
    line.take(speaker, held)
    with line.engine.connect() as tx:
        assert tx.scalar(select(func.count()).select_from(ROLLUP_DUE)) == 1
    line.house(end_ms + LATE_MS + HOUR_MS)
    assert sum(sums.reports for _, sums in line.sums("press-1", "h")) == before + 1


def test_a_merged_report_takes_the_place_of_others_in_their_hours_too(line):
    speaker = line.speakers[0]
    made = [line.report(speaker, hold=True) for _ in range(12)]
    line.take(speaker, made[0], made[1])
    now_ms = START_MS + 5 * HOUR_MS
    line.house(now_ms)
    line.take(speaker, merge(made))
    line.house(now_ms + HOUR_MS)
    assert sum(sums.frames for _, sums in line.sums("press-1", "h")) == sum(one.frames for one in made)


def test_reports_go_after_their_days_and_never_before_they_are_summed(line):
    line.fill(6 * 24 * 9)
    now_ms = START_MS + 9 * DAY_MS
    with line.engine.begin() as tx:
        assert retain(tx, now_ms, Limits(), spend_s=5.0) == 0, "nothing is summed yet"
    line.house(now_ms)
    before = sum(sums.frames for _, sums in line.sums("press-1", "h"))
    with line.engine.begin() as tx:
        assert retain(tx, now_ms, Limits(), spend_s=5.0) > 200
    with line.engine.connect() as tx:
        oldest = tx.scalar(select(func.min(REPORT.c.at_ms)))
    assert abs(oldest - (now_ms - 7 * DAY_MS)) < HOUR_MS
    assert sum(sums.frames for _, sums in line.sums("press-1", "h")) == before
    with line.engine.begin() as tx:
        assert retain(tx, now_ms + 3 * DAY_MS, Limits(hour_days=1), spend_s=5.0) > 0
        assert tx.scalar(select(func.count()).where(ROLLUP.c.span == "h")) < 6 * 24
        assert tx.scalar(select(func.count()).where(ROLLUP.c.span == "d")) == 9


def test_a_spool_goes_with_its_last_report_where_the_device_has_another(line):
    first, quiet = line.speakers
    line.report(quiet)
    line.fill(6 * 24)
    old = first.epoch
    first.epoch, first.sequence = old + 1, 0
    line.fill(6 * 24 * 9)
    now_ms = START_MS + 10 * DAY_MS
    line.house(now_ms)
    with line.engine.begin() as tx:
        retain(tx, now_ms, Limits(), spend_s=5.0)
        spools = tx.execute(select(SPOOL.c.device, SPOOL.c.epoch).order_by(SPOOL.c.device)).all()
        assert tx.scalar(select(func.count()).where(REPORT.c.device == quiet.device)) == 0
    assert spools == [(first.device, old + 1), (quiet.device, quiet.epoch)], "one that is quiet may go on where it was"
    line.take(quiet, quiet.report(frames=20))
    assert line.ingest.ledger.marks[quiet.device, quiet.epoch].contiguous == 2


def test_what_is_gone_is_not_counted_twice_when_it_comes_again(line):
    made = line.fill(6 * 24 * 8)
    now_ms = START_MS + 8 * DAY_MS
    line.house(now_ms)
    with line.engine.begin() as tx:
        retain(tx, now_ms, Limits(), spend_s=5.0)
    frames = line.ingest.registry.get("press-1").frames
    outcome = line.ingest.process(
        read_batch([Message(topics.up("press-1", "report"), encode(one), now_ms) for one in made[:5]]), now_ms
    )
    assert (outcome.stored, outcome.repeated) == (0, 5)
    assert line.ingest.registry.get("press-1").frames == frames


def test_a_report_of_an_hour_that_is_gone_is_added_to_its_sums(line):
    speaker = line.speakers[0]
    line.report(speaker)
    held = line.report(speaker, hold=True)
    line.fill(6 * 24 * 8)
    now_ms = START_MS + 8 * DAY_MS
    line.house(now_ms)
    with line.engine.begin() as tx:
        retain(tx, now_ms, Limits(), spend_s=5.0)
    before = {start: sums.reports for start, sums in line.sums("press-1", "h")}
    line.take(speaker, held)
    line.house(now_ms)
    after = {start: sums.reports for start, sums in line.sums("press-1", "h")}
    hour = (START_MS + held.monotonic_ms) // HOUR_MS * HOUR_MS
    assert after == {**before, hour: before[hour] + 1}
    line.house(now_ms)
    assert {start: sums.reports for start, sums in line.sums("press-1", "h")} == after


def test_a_limit_of_bytes_takes_the_oldest_reports_first(line):
    line.fill(6 * 24 * 2)
    now_ms = START_MS + 2 * DAY_MS + HOUR_MS
    line.house(now_ms)
    with line.engine.begin() as tx:
        assert store_bytes(tx) > 1 << 16
        assert retain(tx, now_ms, Limits(store_mib=1_000_000), spend_s=5.0) == 0
        assert retain(tx, now_ms, Limits(store_mib=0), spend_s=5.0) > 200
        last = tx.scalar(select(func.max(REPORT.c.at_ms)))
        assert last is None or last >= now_ms - 2 * HOUR_MS
