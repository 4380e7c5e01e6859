"""A device's own normal: when it is learnt, from what, and that it is the one that the benchmark learns."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import insert

from device_agent.contract.codec import encode
from device_agent.contract.errors import BadInput
from device_agent.detector import reference_from_history
from device_agent.detector.normal import normal
from fleet.alerts import AlertBook
from fleet.models import models_of
from fleet.references import DAY_MS, begin, due, forget_model, keep, known, learn, pack, put_off, unpack
from fleet.registry import Registry
from fleet.schema import REPORT

MINUTE_MS = 60_000


@pytest.fixture
def chosen(plant):
    """Streams of the plant's first model."""
    model = models_of(plant.manifest, "0" * 64, 0)[0]
    return normal(model.labels, model.baseline, None)[0]


def store(engine, speaker, reports: int, *, interval_ms: int, look: str = "healthy") -> list:
    made = [speaker.report(look, frames=20) for _ in range(reports)]
    rows = [
        {
            "device": speaker.device,
            "epoch": report.epoch,
            "sequence": report.sequence,
            "first": report.sequence,
            "at_ms": report.sequence * interval_ms,
            "received_ms": report.sequence * interval_ms,
            "interval_ms": interval_ms,
            "model": report.model.hex(),
            "frames": report.frames,
            "dropped": 0,
            "score": None,
            "payload": encode(report),
        }
        for report in made
    ]
    with engine.begin() as tx:
        tx.execute(insert(REPORT), rows)
    return made


def test_three_days_of_one_model_make_the_reference_of_the_benchmark(plant, chosen):
    engine, speaker = plant.open(), plant.speaker("press-1", interval_ms=30 * MINUTE_MS)
    reports = store(engine, speaker, 200, interval_ms=30 * MINUTE_MS)
    with engine.begin() as tx:
        found = learn(tx, "press-1", plant.model_ids[0].hex(), chosen, 0)
    counts = np.stack([report.histogram.dense().ravel() for report in reports])
    expected = reference_from_history(counts, np.array([report.same for report in reports]), chosen, block=2)
    assert found is not None
    for name in ("p0", "bound", "phi", "agree", "same", "longest"):
        assert np.allclose(getattr(found, name), getattr(expected, name)), name
    assert found.armed.all()


def test_too_few_reports_or_those_of_another_model_make_none(plant, chosen):
    engine, speaker = plant.open(), plant.speaker("press-1", interval_ms=MINUTE_MS)
    store(engine, speaker, 100, interval_ms=MINUTE_MS)
    with engine.begin() as tx:
        assert learn(tx, "press-1", plant.model_ids[0].hex(), chosen, 0) is None, "an hour and forty minutes"
        assert learn(tx, "press-1", plant.model_ids[1].hex(), chosen, 0) is None
        assert learn(tx, "press-9", plant.model_ids[0].hex(), chosen, 0) is None


def test_it_is_due_after_three_days_without_an_open_alert(plant):
    engine = plant.open(places={f"press-{k}": ("hall", "plate") for k in range(4)})
    model = plant.model_ids[0].hex()
    with engine.begin() as tx:
        begin(tx, [(f"press-{k}", model) for k in range(4)], 1000)
        assert due(tx, 1000 + 3 * DAY_MS - 1) == []
        assert [name for name, _, _ in due(tx, 1000 + 3 * DAY_MS)] == [f"press-{k}" for k in range(4)]
        assert len(due(tx, 1000 + 3 * DAY_MS, limit=2)) == 2
        put_off(tx, "press-0", model, DAY_MS)
        begin(tx, [("press-1", model)], DAY_MS)
        assert [name for name, _, _ in due(tx, 1000 + 3 * DAY_MS)] == ["press-2", "press-3"]
        book = AlertBook(Registry.load(tx))
        book.open["x"] = alert("press-2", model)
        from fleet.alerts import Change

        book.write(tx, [Change(book.open["x"], "opened")])
        assert due(tx, 1000 + 3 * DAY_MS, limit=1) == [("press-3", model, 1000)]


def alert(device: str, model: str):
    from device_agent.contract.alert import Alert

    return Alert(
        id="x", severity="warn", scope_kind="device", scope=device, site="hall", model=model, stream="low+",
        opened_ms=0, onset_ms=0, updated_ms=0, text="", devices=[device],
    )  # fmt: skip


def test_what_was_learnt_survives_a_restart_until_it_is_forgotten(plant, chosen):
    engine, speaker = plant.open(), plant.speaker("press-1", interval_ms=30 * MINUTE_MS)
    store(engine, speaker, 200, interval_ms=30 * MINUTE_MS)
    model = plant.model_ids[0].hex()
    with engine.begin() as tx:
        begin(tx, [("press-1", model), ("press-2", model)], 0)
        found = learn(tx, "press-1", model, chosen, 0)
        keep(tx, "press-1", model, 0, found, 5 * DAY_MS)
        assert [name for name, _, _ in due(tx, 9 * DAY_MS)] == ["press-2"]
    with engine.begin() as tx:
        again = known(tx, chosen, model)
        assert set(again) == {"press-1"} and known(tx, chosen, model, {"press-2"}) == {}
        assert np.allclose(again["press-1"].bound, found.bound, rtol=1e-6)
        forget_model(tx, model, ["press-1"])
        assert known(tx, chosen, model) == {}


def test_a_packed_reference_is_small_and_of_its_streams_alone(plant, chosen):
    reference = normal(*_labels(plant), None)[1]
    content = pack(reference)
    assert len(content) == 12 * len(chosen.names) + 12
    assert np.array_equal(np.isnan(unpack(content, len(chosen.names)).p0), np.isnan(reference.p0))
    for wrong in (content[:-1], b"", content + b"\0\0\0\0"):
        with pytest.raises(BadInput):
            unpack(wrong, len(chosen.names))


def _labels(plant):
    model = models_of(plant.manifest, "0" * 64, 0)[0]
    return model.labels, model.baseline
