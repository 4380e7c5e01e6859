"""Memory that is stored later than its reports is the same after any restart."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sqlalchemy import func, select

import fleet.dirty
from device_agent.contract.session import State
from fleet.detector_fleet import Settings
from fleet.dirty import Dirty
from fleet.inbox import Batch, read_batch
from fleet.ingest import Ingest
from fleet.schema import DEVICE

NAMES = [f"press-{k}" for k in range(9)]
PLACES = {name: (f"hall-{k // 3}", "plate") for k, name in enumerate(NAMES[:8])}


def memory(ingest: Ingest) -> dict[str, object]:
    """All that must not depend on how often the monitor was started."""
    devices = {}
    for name in NAMES:
        device = ingest.registry.get(name)
        told = (device.reports, device.frames, device.dropped, device.last_report_ms, device.model, device.online)
        state = ingest.fleet.state(name)
        assert state is not None
        devices[name] = (told, state[0], ingest.registry.quality(name), ingest.fleet.readings[name])
    marks = {spool: (mark.contiguous, mark.missing, mark.highest) for spool, mark in ingest.ledger.marks.items()}
    return {"devices": devices, "marks": marks}


def run(plant, seed: int, restarts: set[int]) -> tuple[dict[str, object], Ingest]:
    engine = plant.open(places=PLACES)
    rng = np.random.default_rng(seed)
    speakers = [plant.speaker(name, seed=k) for k, name in enumerate(NAMES)]
    ingest = Ingest(engine, Settings(interval_ms=1000))
    late: list = []
    for number in range(40):
        if number in restarts:
            ingest = Ingest(engine, Settings(interval_ms=1000))
        speaking = [one for one in speakers if rng.random() < 0.6]
        if number == 15:
            speakers[2].model = plant.model_ids[1]
        messages = [
            one.message(one.report("dirty" if number > 25 and one is speakers[4] else "healthy")) for one in speaking
        ]
        if number % 7 == 3 and messages:
            late.append(messages.pop())
        elif late and number % 7 == 6:
            messages += late
            late = []
        batch: Batch = read_batch(messages + ([messages[0]] if messages else []))
        if number == 20:
            batch.states.append(("press-1", State(16, 5, True), 1000))
        ingest.process(batch, number * 1000)
    return memory(ingest), ingest


@pytest.mark.parametrize("budget", [0, 2, 500])
@pytest.mark.parametrize("seed", [1, 2])
def test_restarts_change_nothing_however_late_the_memory_is_stored(plant, monkeypatch, budget: int, seed: int) -> None:
    monkeypatch.setattr(fleet.dirty, "LEAST", budget)
    expected, ingest = run(plant, seed, set())
    plant.wipe(ingest._engine)
    restarts = set(np.random.default_rng(seed).choice(40, 12, replace=False).tolist()) | {39}
    found, _ = run(plant, seed, restarts)
    assert found["marks"] == expected["marks"]
    for name in NAMES:  # figures within what float32 keeps of the peers' sums
        assert found["devices"][name][:3] == expected["devices"][name][:3], name
        now, then = (msgspec.structs.asdict(one["devices"][name][3]) for one in (found, expected))
        for field, value in now.items():
            number = isinstance(value, float)
            assert value == (pytest.approx(then[field], rel=1e-4) if number else then[field]), (name, field)
    assert expected["devices"]["press-4"][3].score > 3, "the dirt must leave something to compare"


def test_with_a_small_budget_the_store_is_behind_and_says_so(plant, monkeypatch) -> None:
    monkeypatch.setattr(fleet.dirty, "LEAST", 0)
    _, ingest = run(plant, 3, set())
    with ingest._engine.connect() as tx:
        stored = tx.scalar(select(func.sum(DEVICE.c.reports)))
    assert stored < sum(ingest.registry.get(name).reports for name in NAMES)


def test_what_must_be_stored_comes_first_and_groups_stay_together() -> None:
    groups = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}
    dirty = Dirty(groups.__getitem__)
    dirty.touch(["a1", "b1"], 5)
    dirty.touch(["a2"], 6)
    dirty.must(["c1"], 7)
    assert dirty.clean(7) == 4
    assert dirty.take(0) == ["c1"]
    assert dirty.take(1) == ["a1", "a2"]
    assert dirty.clean(7) == 4, "b1 waits since batch 5"
    assert dirty.take(500) == ["b1"]
    assert (dirty.take(500), dirty.clean(7)) == ([], 7)


def test_one_that_moved_to_another_group_while_it_waited_is_stored_once() -> None:
    groups = {"a1": "a", "a2": "a"}
    dirty = Dirty(groups.__getitem__)
    dirty.touch(["a1", "a2"], 5)
    groups["a1"] = "b"
    dirty.touch(["a1"], 6)
    assert dirty.take(500) == ["a1", "a2"] and dirty.clean(6) == 6


def test_the_budget_keeps_every_device_fresh_and_a_restart_short() -> None:
    dirty = Dirty(lambda device: device)
    assert dirty.budget(0, 50, 60_000, 1_000_000) == fleet.dirty.LEAST
    assert dirty.budget(8_000, 50, 60_000, 1_000_250) == 500, "one for sixteen reports"
    assert dirty.budget(400, 120_000, 60_000, 1_000_500) == 250, "120,000 devices in 120 s, and a quarter of one passed"
    assert dirty.budget(400, 120_000, 10_000, 1_000_750) == 750, "a device of 10 s looks silent after 60 s"
    assert dirty.budget(400, 120_000, 60_000, 900_000) == fleet.dirty.LEAST, "the clock was set back"
    assert dirty.budget(400, 120_000, 60_000, 99_000_000) == 10_000, "ten seconds at most count as passed"
