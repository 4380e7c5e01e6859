"""One batch, one transaction: every report once, the detector fed once, whatever comes twice, late or broken."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError

from device_agent.contract import topics
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.report import DeviceReport
from device_agent.contract.session import Event, State
from device_agent.merging import merge
from fleet.detector_fleet import Settings
from fleet.inbox import Message, read_batch
from fleet.ingest import Ingest
from fleet.requests import ask
from fleet.schema import DETECTOR, EVENT, QUARANTINE, REPORT
from fleet.status import read_status

SETTINGS = Settings(interval_ms=1000)


def totals(engine):
    with engine.connect() as tx:
        return tx.execute(select(func.count(), func.sum(REPORT.c.frames))).one()


def memory(engine):
    with engine.connect() as tx:
        return tx.execute(select(DETECTOR.c.device, DETECTOR.c.state, DETECTOR.c.peers)).all()


def test_repeated_and_reordered_reports_are_stored_once(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, SETTINGS)
    reports = [speaker.report() for _ in range(6)]
    first = ingest.process(batch_of(*map(speaker.message, (reports[0], reports[2], reports[1], reports[1]))), 0)
    assert first.acks == [("press-1", speaker.epoch, 3)] and (first.stored, first.repeated) == (3, 1)
    gap = ingest.process(batch_of(*map(speaker.message, (reports[5], reports[4], reports[2]))), 0)
    assert gap.acks == [("press-1", speaker.epoch, 3)], "4 is missing: nothing behind it may be acknowledged"
    whole = ingest.process(batch_of(speaker.message(reports[3])), 0)
    assert whole.acks == [("press-1", speaker.epoch, 6)]
    assert totals(engine) == (6, speaker.sent_frames)


def test_a_restart_between_batches_changes_nothing(plant, batch_of):
    """The same reports through one monitor, and through one that starts anew before every batch."""
    states, peers = [], []
    for restart in (False, True):
        engine, speaker = plant.open(), plant.speaker("press-1", seed=5)
        ingest = Ingest(engine, SETTINGS)
        for number in range(30):
            if restart:
                ingest = Ingest(engine, SETTINGS)
            ingest.process(batch_of(speaker.message(speaker.report("dirty" if number > 20 else "healthy"))), 0)
        (row,) = memory(engine)
        states.append((row.state, ingest.fleet.readings["press-1"]))
        peers.append(np.frombuffer(row.peers, np.float32))
        engine.dispose()
        (plant.folder / "fleet.db").unlink()
    assert states[0][1].score > 1 and peers[0].max() > 1, "the dirt must leave something to compare"
    assert states[0] == states[1]
    np.testing.assert_allclose(peers[0], peers[1], rtol=1e-5)


def test_a_failed_commit_feeds_nothing(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, SETTINGS)
    ingest.process(batch_of(*[speaker.message(speaker.report("dirty")) for _ in range(5)]), 0)
    before, messages = memory(engine), [speaker.message(speaker.report("dirty")) for _ in range(5)]

    def fail(_connection):
        raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

    event.listen(engine, "commit", fail)
    with pytest.raises(OperationalError, match="disk is full"):
        ingest.process(read_batch(messages), 0)
    event.remove(engine, "commit", fail)
    assert memory(engine) == before
    again = ingest.process(read_batch(messages), 0)
    assert again.stored == 5 and again.acks == [("press-1", speaker.epoch, 10)]
    assert totals(engine) == (10, speaker.sent_frames) and ingest.fleet.readings["press-1"].windows == 10


def test_a_merged_report_takes_the_place_of_its_range(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, SETTINGS)
    reports = [speaker.report() for _ in range(10)]
    ingest.process(batch_of(*map(speaker.message, (reports[0], reports[3], reports[4]))), 0)
    merged = merge(reports[1:8])
    outcome = ingest.process(batch_of(speaker.message(merged), *map(speaker.message, reports[8:])), 0)
    assert outcome.acks == [("press-1", speaker.epoch, 10)]
    assert totals(engine) == (4, speaker.sent_frames)
    again = ingest.process(batch_of(speaker.message(reports[5]), speaker.message(merged)), 0)
    assert (again.stored, again.repeated) == (0, 2), "what a merged report stands for is held"
    assert totals(engine) == (4, speaker.sent_frames)
    with engine.connect() as tx:
        assert read_status(tx, 0).devices[0].frames == speaker.sent_frames


def test_a_merged_report_replaces_one_that_ends_where_it_ends(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, SETTINGS)
    reports = [speaker.report() for _ in range(4)]
    ingest.process(batch_of(speaker.message(reports[3])), 0)
    outcome = ingest.process(batch_of(speaker.message(merge(reports))), 0)
    assert outcome.acks == [("press-1", speaker.epoch, 4)] and totals(engine) == (1, speaker.sent_frames)


def test_what_cannot_be_read_is_kept_and_stops_nothing(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, SETTINGS)
    good = [speaker.report() for _ in range(3)]
    lying = msgspec.structs.replace(good[1], frames=7)
    newer = encode(msgspec.structs.replace(good[1], schema=0x20))
    topic = topics.up("press-1", "report")
    bad = [
        Message(topic, encode(lying), 0),
        Message(topic, encode(lying), 0),
        Message(topic, b"\xff\x00garbage", 0),
        Message(topic, b"", 0),
        Message(topic, b"[" * 100_000, 0),
        Message(topic, newer, 0),
        Message(topics.up("press-1", "backfill"), b"no zlib", 0),
        Message(topics.up("press-1", "birth"), encode(good[0]), 0),
        Message("lineside/1/up/00/press-1/report", encode(good[0]), 0),
        Message("lineside/1/up/12/../report", b"", 0),
    ]
    outcome = ingest.process(read_batch([speaker.message(good[0]), *bad, speaker.message(good[2])]), 0)
    assert outcome.rejected == len(bad) and outcome.stored == 2
    assert outcome.acks == [("press-1", speaker.epoch, 3)], "2 is kept whole in quarantine"
    with engine.connect() as tx:
        kept = tx.execute(select(QUARANTINE.c.reason, QUARANTINE.c.times)).all()
        assert read_status(tx, 0).quarantined == len(bad)
    assert sorted(times for _, times in kept) == [1] * 8 + [2]
    assert any("schema 2.0" in reason for reason, _ in kept)


def test_one_bad_report_does_not_take_its_backfill_with_it(plant):
    engine, speaker = plant.open(), plant.speaker("press-1")
    reports = [speaker.report() for _ in range(5)]
    reports[2] = msgspec.structs.replace(reports[2], frames=3)
    outcome = Ingest(engine, SETTINGS).process(read_batch([speaker.backfill(reports, 10**13)]), 0)
    assert (outcome.stored, outcome.rejected) == (4, 1) and outcome.acks == [("press-1", speaker.epoch, 5)]


def test_what_a_device_no_longer_holds_is_passed_after_three_resends(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    speaker.sequence = 40
    ingest, report = Ingest(engine, SETTINGS), speaker.report()
    acks = [ingest.process(batch_of(speaker.message(report, late_ms=30_000 * k)), 0).acks[0][2] for k in range(4)]
    assert acks == [0, 0, 41, 41]
    with engine.connect() as tx:
        assert read_status(tx, 0).devices[0].missing == 40


def test_clocks_are_repaired_by_the_boot(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    in_1970 = [msgspec.structs.replace(speaker.report(flags=0), wall_ms=1000) for _ in range(3)]
    ingest = Ingest(engine, SETTINGS)
    ingest.process(batch_of(speaker.message(in_1970[2], late_ms=40)), 0)
    ingest.process(batch_of(speaker.backfill(in_1970[:2], 10**13)), 0)
    with engine.connect() as tx:
        times = [row.at_ms for row in tx.execute(select(REPORT.c.at_ms).order_by(REPORT.c.sequence))]
    assert [b - a for a, b in pairwise(times)] == [1000, 1000]


def test_states_of_older_sessions_are_ignored(plant, batch_of):
    engine = plant.open()
    ingest = Ingest(engine, SETTINGS)

    def say(session: int, online: bool) -> Message:
        return Message(topics.up("press-1", "state"), encode(State(SCHEMA, session, online, "lost")), 1000)

    ingest.process(batch_of(say(65_537, True), say(65_536, False)), 0)
    with engine.connect() as tx:
        assert read_status(tx, 1000 + 31_000).devices[0].health == "online"
    ingest.process(batch_of(say(65_537, False)), 0)
    with engine.connect() as tx:
        assert read_status(tx, 1000 + 29_000).devices[0].health == "online", "a 3.1.1 will comes at once: wait 30 s"
        assert read_status(tx, 1000 + 31_000).devices[0].health == "offline"


def test_a_device_without_reports_for_three_intervals_is_silent(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    message = speaker.message(speaker.report())
    Ingest(engine, SETTINGS).process(batch_of(message), 0)
    with engine.connect() as tx:
        assert read_status(tx, message.received_ms + 32_000).devices[0].health == "online"
        assert read_status(tx, message.received_ms + 34_000).devices[0].health == "silent"


def test_events_are_stored_once(plant, batch_of):
    engine = plant.open()
    ingest = Ingest(engine, SETTINGS)
    message = Message(topics.up("press-1", "event"), encode(Event(SCHEMA, 1, 5, 9, "camera_lost", "usb")), 77)
    for _ in range(2):
        ingest.process(batch_of(message, message), 0)
    with engine.connect() as tx:
        assert tx.execute(select(EVENT.c.kind, EVENT.c.at_ms, EVENT.c.text)).all() == [("camera_lost", 77, "usb")]


def test_an_unknown_model_is_stored_and_raises_info_only(plant, batch_of):
    engine, speaker = plant.open(models=False), plant.speaker("press-1")
    settings = Settings(interval_ms=1000, learn_ms=120_000)
    ingest = Ingest(engine, settings)
    ingest.process(batch_of(Message(topics.up("press-1", "birth"), encode(speaker.birth()), 0)), 0)
    changes = []
    for number in range(260):
        if number == 200:
            ingest = Ingest(engine, settings)
        look = "healthy" if number < 180 else "dirty"
        message = speaker.message(speaker.report(look))
        changes += ingest.process(batch_of(message), message.received_ms).changes
    assert totals(engine)[0] == 260
    assert {change.alert.severity for change in changes} == {"info"}
    assert not ingest.fleet.readings["press-1"].armed


def test_a_report_of_other_classes_is_stored_and_not_judged(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    report = speaker.report()
    histogram = msgspec.structs.replace(report.histogram, classes=9)
    outcome = Ingest(engine, SETTINGS).process(
        batch_of(speaker.message(msgspec.structs.replace(report, histogram=histogram))), 0
    )
    assert outcome.stored == 1 and totals(engine)[0] == 1 and memory(engine) == []


def test_a_request_is_done_once_and_its_outcome_kept(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1", seed=3)
    ingest = Ingest(engine, SETTINGS)
    while not ingest.alerts.open:
        message = speaker.message(speaker.report("dirty"))
        ingest.process(batch_of(message), message.received_ms)
    alert_id = next(iter(ingest.alerts.open))
    with engine.begin() as tx:
        ask(tx, "acknowledge", alert_id, 0)
    changes = ingest.process(batch_of(), 5).changes
    assert [(change.what, change.alert.id) for change in changes] == [("closed", alert_id)]
    assert not ingest.alerts.open and ingest.fleet.readings["press-1"].score == 0
    assert ingest.process(batch_of(), 6).changes == []


def test_reports_with_extreme_numbers_do_no_harm(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    report = speaker.report()
    top = 2**63 - 1
    wild: DeviceReport = msgspec.structs.replace(
        report, sequence=top, wall_ms=top, monotonic_ms=top, interval_ms=top, boot=2**32 - 1
    )
    ingest = Ingest(engine, SETTINGS)
    outcome = ingest.process(
        batch_of(speaker.message(report), Message(speaker.message(report).topic, encode(wild), 9)), 0
    )
    assert outcome.stored == 2 and outcome.acks == [("press-1", speaker.epoch, 1)]
    Ingest(engine, SETTINGS).process(batch_of(speaker.message(speaker.report())), 0)
