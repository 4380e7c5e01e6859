"""A device is judged by its own normal once it has shown it, and again by its bundle when it is another device."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from fleet.detector_fleet import Settings
from fleet.ingest import Ingest
from fleet.references import DAY_MS
from fleet.requests import ask
from fleet.schema import REFERENCE

HALF_HOUR_MS = 1_800_000
SETTINGS = Settings(interval_ms=HALF_HOUR_MS)
START_MS = 1_760_000_000_000


class Line:
    """One device that reports every half hour, and its monitor."""

    def __init__(self, plant) -> None:
        self.plant, self.engine = plant, plant.open(places={"press-1": ("hall", "plate")})
        self.speaker = plant.speaker("press-1", interval_ms=HALF_HOUR_MS)
        self.ingest = Ingest(self.engine, SETTINGS)
        self.model = plant.model_ids[0].hex()

    def run(self, reports: int, look: str = "healthy") -> None:
        from fleet.inbox import read_batch

        for _ in range(reports):
            message = self.speaker.message(self.speaker.report(look, frames=60))
            self.ingest.process(read_batch([message]), message.received_ms)

    @property
    def own(self) -> bool:
        """Whether the detector in memory judges by the device's own normal."""
        watch = self.ingest.fleet.watches[self.model]
        rows = watch.detector.reference.phi[watch.rows["press-1"]]
        assert ("press-1" in watch.own) is bool((rows >= 1).all()), "phi is known from a history alone"
        return "press-1" in watch.own

    def since_ms(self) -> int:
        with self.engine.connect() as tx:
            return tx.scalar(select(REFERENCE.c.since_ms))

    def ask(self, action: str, target: str) -> None:
        with self.engine.begin() as tx:
            ask(tx, action, target, 0)


@pytest.fixture
def line(plant) -> Line:
    return Line(plant)


def test_three_healthy_days_make_it_and_a_restart_keeps_it(line):
    line.run(100)
    assert not line.own
    line.run(60)
    assert line.own
    watch = line.ingest.fleet.watches[line.model]
    before = watch.detector.reference.bound[watch.rows["press-1"]].copy()
    line.ingest = Ingest(line.engine, SETTINGS)
    line.run(1)
    watch = line.ingest.fleet.watches[line.model]
    assert line.own and watch.detector.reference.bound[watch.rows["press-1"]] == pytest.approx(before, rel=1e-5)


def test_days_in_which_something_was_found_do_not_count(line):
    line.run(100)
    line.run(30, "dirty")
    assert line.ingest.alerts.open and line.since_ms() > START_MS + 2 * DAY_MS
    line.run(60, "dirty")
    assert not line.own, "dirt is not what is normal"


def test_a_change_over_makes_the_bundle_count_again(line):
    line.run(160)
    assert line.own
    line.ask("changeover", "hall")
    line.run(1)
    assert not line.own and line.since_ms() > START_MS + 3 * DAY_MS
    line.run(150)
    assert line.own


def test_an_acknowledgement_leaves_it_as_it_is(line):
    line.run(160)
    while not line.ingest.alerts.open:
        line.run(1, "dirty")
    line.ask("acknowledge", next(iter(line.ingest.alerts.open)))
    line.run(1)
    assert line.own and not line.ingest.alerts.open


def test_another_model_is_learnt_for_itself(line):
    line.run(160)
    line.speaker.model = line.plant.model_ids[1]
    line.run(2)
    other = line.ingest.fleet.watches[line.plant.model_ids[1].hex()]
    assert "press-1" not in other.own and line.since_ms() > START_MS + 3 * DAY_MS
    line.run(150)
    assert "press-1" in other.own
