"""Textbook tests beside the detector: their alarms are events, nobody is paged."""

import pytest
from sqlalchemy import select

from device_agent.contract.errors import BadInput
from fleet.detector_fleet import Settings
from fleet.diagnostics.watching import Watching, check_tests
from fleet.inbox import read_batch
from fleet.ingest import Ingest
from fleet.schema import EVENT


def serve_tests(plant, *names, steps=192, dirty_from=150):
    """Reports of a device that becomes dirty, to a monitor with these tests; its test events and alerts."""
    speaker = plant.speaker("press-1", interval_ms=900_000)
    engine = plant.open(places={"press-1": ("north", "plate")})
    ingest, alerts = Ingest(engine, Settings(), tests=names), []
    for step in range(steps):
        message = speaker.message(speaker.report("dirty" if step > dirty_from else "healthy", frames=60, stay=1))
        alerts += ingest.process(read_batch([message]), message.received_ms).changes
    with engine.connect() as tx:
        events = [
            (row.kind, row.text) for row in tx.execute(select(EVENT).order_by(EVENT.c.at_ms)) if "test" in row.kind
        ]
    return events, [change.alert.stream for change in alerts if change.what == "opened"]


def test_alarms_of_a_chosen_test_are_events_of_the_device_and_page_nobody(plant):
    events, alerts = serve_tests(plant, "ks", "chi2")
    assert {kind for kind, _ in events} == {"test:ks", "test:chi2"} and len(events) <= 6
    assert all("information only" in text and "device-month" in text for _, text in events)
    assert alerts and not any("test" in stream for stream in alerts)


def test_without_a_chosen_test_alerts_are_the_same_and_there_are_no_events_of_tests(plant):
    events, alerts = serve_tests(plant)
    assert events == [] and alerts


def test_a_test_that_there_is_not_is_refused_before_anything_starts(plant):
    with pytest.raises(BadInput, match="known are adwin, chi2"):
        Ingest(plant.open(), Settings(), tests=["hunch"])
    assert check_tests(["ours"]) == ()


def test_a_healthy_device_has_no_event_of_a_test_that_keeps_its_rate(plant):
    events, _ = serve_tests(plant, "kl", "psi", steps=130, dirty_from=999)
    assert events == []


def test_what_a_test_is_shown_in_one_batch_is_what_it_is_shown_in_many(plant):
    speakers = [plant.speaker(name, interval_ms=60_000) for name in ("press-1", "press-2")]
    one, many = Watching(["ks"]), Watching(["ks"])
    engine, entries = plant.open(), []
    ingest = Ingest(engine, Settings())
    for step in range(130):
        messages = [s.message(s.report("dirty" if step > 60 else "healthy", frames=60, stay=1)) for s in speakers]
        for message in messages:
            with engine.begin() as tx:
                entries += ingest.ledger.take(tx, read_batch([message]).reports)
    models, learning = ingest.fleet.models, ingest.fleet.learning
    at_once = one.feed(entries, models, learning)
    one_by_one = [alarm for entry in entries for alarm in many.feed([entry], models, learning)]
    assert {a["device"] for a in at_once} == {"press-1", "press-2"}
    assert sorted(a["text"] for a in at_once) == sorted(a["text"] for a in one_by_one)
