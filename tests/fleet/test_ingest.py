"""One batch, one transaction: every report once, the detector fed once, whatever comes twice, late or broken."""

from __future__ import annotations

from itertools import pairwise
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError

from device_agent.contract import topics
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.errors import BadInput
from device_agent.contract.report import BACKFILL, GAP, DeviceReport, Shadow
from device_agent.contract.session import Event, State
from device_agent.merging import merge
from fleet.detector_fleet import Settings
from fleet.inbox import Message, read_batch
from fleet.ingest import Ingest
from fleet.quarantine import read_quarantine
from fleet.registry import Device, import_places
from fleet.requests import ask
from fleet.schema import BOOT, DETECTOR, DEVICE, EVENT, QUARANTINE, REPORT
from fleet.shadow.tally import read_tally
from fleet.status import read_status

SETTINGS = Settings(interval_ms=1000)
START_MS = 1_760_000_000_000


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
        plant.wipe(engine)
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
        report, sequence=top, wall_ms=top, monotonic_ms=2**42, interval_ms=604_800_000, boot=2**32 - 1, dropped=2**40
    )
    ingest = Ingest(engine, SETTINGS)
    ingest.registry.get("press-1").dropped = ingest.registry.get("press-1").frames = top - 5
    outcome = ingest.process(
        batch_of(speaker.message(report), Message(speaker.message(report).topic, encode(wild), 9)), 0
    )
    assert outcome.stored == 2 and outcome.acks == [("press-1", speaker.epoch, 1)]
    ingest = Ingest(engine, SETTINGS)
    ingest.process(batch_of(speaker.message(speaker.report())), 0)
    assert ingest.registry.get("press-1").dropped == ingest.registry.get("press-1").frames == top
    assert ingest.fleet.readings["press-1"].onset_ms >= 0


@pytest.mark.parametrize("wrong", [{"interval_ms": 2**62}, {"monotonic_ms": 2**62}, {"dropped": 2**53}])
def test_impossible_reports_are_set_aside(plant, batch_of, wrong):
    speaker = plant.speaker("press-1")
    message = speaker.message(msgspec.structs.replace(speaker.report(), **wrong))._replace(received_ms=1)
    outcome = Ingest(plant.open(), SETTINGS).process(batch_of(message), 0)
    assert (outcome.stored, outcome.rejected) == (0, 1) and outcome.acks == [("press-1", speaker.epoch, 1)]


@pytest.mark.parametrize(
    "wrong", [{"labels": ["a"] * 1025}, {"labels": ["a\n"]}, {"agent": "a\0"}, {"interval_ms": 2**62}]
)
def test_impossible_births_are_set_aside(plant, batch_of, wrong):
    birth = msgspec.structs.replace(plant.speaker("press-1").birth(), **wrong)
    ingest = Ingest(plant.open(models=False), SETTINGS)
    outcome = ingest.process(batch_of(Message(topics.up("press-1", "birth"), encode(birth), 0)), 0)
    assert outcome.rejected == 1 and ingest.fleet.models == {}


def test_a_model_of_many_classes_that_was_never_imported_is_stored_and_not_learnt(plant, batch_of):
    speaker = plant.speaker("press-1")
    birth = msgspec.structs.replace(speaker.birth(), labels=["a"] * 1000)
    ingest = Ingest(plant.open(models=False), Settings(interval_ms=1000, learn_ms=1000))
    ingest.process(batch_of(Message(topics.up("press-1", "birth"), encode(birth), 0)), 0)
    for _ in range(3):
        report = speaker.report(frames=2000)
        wide = msgspec.structs.replace(report, histogram=msgspec.structs.replace(report.histogram, classes=1000))
        assert ingest.process(batch_of(speaker.message(wide)), 0).stored == 1
    assert ingest.fleet.learning == {} and ingest.fleet.watches == {}


def test_a_model_with_a_useless_baseline_is_not_judged(plant, batch_of, monkeypatch):
    engine, speaker = plant.open(), plant.speaker("press-1")
    monkeypatch.setattr("fleet.detector_fleet.normal", Mock(side_effect=BadInput("baseline: of no use")))
    outcome = Ingest(engine, SETTINGS).process(batch_of(*[speaker.message(speaker.report()) for _ in range(3)]), 0)
    assert outcome.stored == 3 and memory(engine) == []


def test_memory_is_read_again_before_anything_else_when_reading_it_failed_too(plant):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest, messages = Ingest(engine, SETTINGS), [speaker.message(speaker.report()) for _ in range(5)]

    def fail(*_):
        raise OperationalError("", {}, Exception("disk i/o error"))

    event.listen(engine, "commit", fail)
    with pytest.raises(OperationalError):
        ingest.process(read_batch(messages), 0)
    event.remove(engine, "commit", fail)
    event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(OperationalError):
        ingest.process(read_batch(messages), 0)
    event.remove(engine, "before_cursor_execute", fail)
    assert ingest.process(read_batch(messages), 0).stored == 5
    assert ingest.fleet.readings["press-1"].windows == 5 and ingest.registry.get("press-1").reports == 5


def newer(report: DeviceReport) -> DeviceReport:
    return msgspec.structs.replace(report, schema=0x20)


def test_reports_that_a_later_version_can_read_stay_on_their_device(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest, reports = Ingest(engine, SETTINGS), [speaker.report() for _ in range(6)]
    reports[2:4] = map(newer, reports[2:4])
    for resend in range(5):
        messages = [speaker.message(report)._replace(received_ms=30_000 * resend) for report in reports]
        outcome = ingest.process(batch_of(*messages), 0)
        assert outcome.acks == [("press-1", speaker.epoch, 2)], "a hole of what the device still holds is not passed"
    with engine.connect() as tx:
        (kept,) = read_quarantine(tx)
    assert (kept.times, kept.size) == (10, 0) and "schema 2.0 cannot be read" in kept.reason


@pytest.mark.parametrize("limit", ["KEPT_MESSAGES", "KEPT_BYTES"])
def test_what_quarantine_cannot_keep_whole_is_not_acknowledged(plant, batch_of, monkeypatch, limit):
    engine, speaker = plant.open(), plant.speaker("press-1")
    lying = [msgspec.structs.replace(speaker.report(), frames=7) for _ in range(4)]
    payloads = [speaker.message(report) for report in lying]
    monkeypatch.setattr(f"fleet.quarantine.{limit}", 2 if limit == "KEPT_MESSAGES" else 10)
    ingest = Ingest(engine, SETTINGS)
    outcomes = [ingest.process(batch_of(*payloads), 0) for _ in range(2)]
    kept_whole = 2 if limit == "KEPT_MESSAGES" else 0
    assert [outcome.acks for outcome in outcomes] == [[("press-1", speaker.epoch, 2)] if kept_whole else []] * 2
    with engine.connect() as tx:
        rows = read_quarantine(tx)
    assert sum(row.times for row in rows) == 8 and [row.size > 0 for row in rows] == [True] * kept_whole + [False]


def say(session: int, online: bool, at_ms: int) -> Message:
    return Message(topics.up("press-1", "state"), encode(State(SCHEMA, session, online, "lost")), at_ms)


def health(engine, now_ms):
    with engine.connect() as tx:
        return read_status(tx, now_ms).devices[0].health


def test_a_device_with_a_new_card_and_no_clock_is_taken_at_its_word(plant, batch_of):
    engine, old, new = plant.open(), plant.speaker("press-1"), plant.speaker("press-1", seed=9)
    ingest, now = Ingest(engine, SETTINGS), START_MS
    ingest.process(batch_of(say(70_000 * 65536, True, now), old.message(old.report())), now)
    ingest.process(batch_of(say(70_000 * 65536, False, now + 1000)), now)
    now += 600_000
    new.boot = 5
    ingest.process(batch_of(say(5 * 65536 + 1, True, now)), now)
    ingest.process(batch_of(Message(topics.up("press-1", "birth"), encode(new.birth()), now)), now)
    assert health(engine, now + 31_000) != "offline"
    ingest.process(batch_of(new.message(new.report())._replace(received_ms=now)), now)
    assert health(engine, now + 31_000) == "online"
    ingest.process(batch_of(say(5 * 65536 + 1, False, now + 1)), now)
    assert health(engine, now + 31_002) == "offline", "its later sessions count"


def test_an_old_birth_that_the_broker_retained_brings_no_stopped_device_back(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest, now = Ingest(engine, SETTINGS), START_MS
    birth = Message(topics.up("press-1", "birth"), encode(speaker.birth()), now)
    ingest.process(batch_of(say(65_537, True, now), birth, speaker.message(speaker.report())), now)
    now += 60_000
    ingest.process(batch_of(say(2 * 65_536 + 1, False, now)), now)
    ingest.process(batch_of(birth._replace(received_ms=now + 1)), now)
    assert health(engine, now + 31_000) == "offline"


def test_boots_of_a_new_card_are_not_those_of_the_old_one(plant, batch_of):
    engine, old, new = plant.open(), plant.speaker("press-1"), plant.speaker("press-1", seed=9)
    ingest, at_ms = Ingest(engine, SETTINGS), []
    for card, boot, now in ((old, 5, START_MS), (old, 9, START_MS + 60_000), (new, 5, START_MS + 600_000)):
        card.boot, card.sequence = boot, 0 if boot == 5 else card.sequence
        birth = Message(topics.up("press-1", "birth"), encode(card.birth()), now)
        ingest.process(batch_of(birth, say(boot * 65536 + 1, True, now)), now)
        ingest.process(batch_of(card.message(card.report())._replace(received_ms=now)), now)
        at_ms.append(now)
    with engine.connect() as tx:
        assert tx.scalars(select(REPORT.c.at_ms).order_by(REPORT.c.received_ms)).all() == at_ms


def test_a_report_after_the_word_offline_wins(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    report = speaker.message(speaker.report())
    ingest = Ingest(engine, SETTINGS)
    ingest.process(batch_of(say(65_537, False, report.received_ms - 40_000)), 0)
    assert health(engine, report.received_ms) == "offline"
    ingest.process(batch_of(report), 0)
    assert health(engine, report.received_ms) == "online"


def test_a_new_epoch_after_an_unclean_boot_is_no_loss(plant, batch_of):
    engine, before, after = plant.open(), plant.speaker("press-1"), plant.speaker("press-1", seed=9)
    ingest, unsent = Ingest(engine, SETTINGS), []
    for number in range(5):
        report = before.report()
        if number < 3:
            ingest.process(batch_of(before.message(report)), 0)
        else:
            unsent.append(msgspec.structs.replace(report, flags=BACKFILL))
    now = START_MS + 60_000
    after.boot = 2
    ingest.process(batch_of(say(2 * 65536 + 1, True, now), say(65536 + 1, False, now)), now)
    birth = Message(topics.up("press-1", "birth"), encode(after.birth()), now)
    messages = [after.message(after.report())._replace(received_ms=now + 1000 * k) for k in range(3)]
    outcome = ingest.process(batch_of(birth, *messages, before.backfill(unsent, now + 3000)), now)
    assert sorted(outcome.acks) == sorted([("press-1", before.epoch, 5), ("press-1", after.epoch, 3)])
    with engine.connect() as tx:
        (device,) = read_status(tx, now + 4000).devices
    assert (device.health, device.missing, device.reports) == ("online", 0, 8)
    assert device.last_report_ms == now + 2000


@pytest.mark.parametrize("wrong_by_ms", [-START_MS, -60_000, 60_000, 365 * 86_400_000])
def test_a_clock_of_the_monitor_that_was_set_leaves_no_trace(plant, batch_of, wrong_by_ms):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, SETTINGS)
    messages = [speaker.message(speaker.report()) for _ in range(6)]
    wrong = [message._replace(received_ms=message.received_ms + wrong_by_ms) for message in messages[:3]]
    ingest.process(batch_of(*wrong), 0)
    ingest.ledger.forget_clocks()
    ingest.process(batch_of(*messages[3:]), 0)
    now = messages[-1].received_ms
    assert health(engine, now) == "online" and health(engine, now + 60_000) == "silent"
    with engine.connect() as tx:
        times = tx.scalars(select(REPORT.c.at_ms).order_by(REPORT.c.sequence)).all()
    assert times[3:] == [message.received_ms for message in messages[3:]]


@pytest.mark.parametrize("wrong_by_ms", [-START_MS, 365 * 86_400_000])
def test_a_clock_that_was_set_while_no_monitor_ran_is_found_by_the_reports(plant, batch_of, wrong_by_ms):
    engine, speaker = plant.open(), plant.speaker("press-1")
    messages = [speaker.message(speaker.report()) for _ in range(2)]
    early = messages[0]._replace(received_ms=messages[0].received_ms + wrong_by_ms)
    Ingest(engine, SETTINGS).process(batch_of(early), 0)
    Ingest(engine, SETTINGS).process(batch_of(messages[1]), 0)
    with engine.connect() as tx:
        assert tx.scalar(select(func.max(REPORT.c.at_ms)).where(REPORT.c.sequence == 2)) == messages[1].received_ms


def test_a_device_was_last_heard_when_its_live_report_came(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    messages = [speaker.message(speaker.report(), late_ms=late_ms) for late_ms in (0, 300_000)]
    Ingest(engine, SETTINGS).process(batch_of(*messages), 0)
    assert health(engine, messages[1].received_ms) == "online"


def test_a_device_that_was_heard_in_the_future_is_silent(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    message = speaker.message(speaker.report())
    Ingest(engine, SETTINGS).process(batch_of(message._replace(received_ms=2 * message.received_ms)), 0)
    assert health(engine, message.received_ms) == "silent"


def test_a_gap_comes_with_its_report_and_counts_once(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, SETTINGS)
    first, second = speaker.report(flags=GAP), speaker.report()
    told = Event(SCHEMA, speaker.boot, 5, START_MS, "gap", "told by the agent as well")
    for _ in range(2):
        ingest.process(
            batch_of(
                Message(topics.up("press-1", "event"), encode(told), START_MS),
                *map(speaker.message, (first, second)),
            ),
            0,
        )
    whole = merge([first, second])
    ingest.process(batch_of(speaker.message(whole)), 0)
    with engine.connect() as tx:
        (device,) = read_status(tx, START_MS).devices
    assert device.gaps == 1 and device.frames == first.frames + second.frames


def test_gaps_of_two_spools_that_began_with_a_boot_are_two(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, SETTINGS)
    first = msgspec.structs.replace(speaker.report(flags=GAP), boot=3, monotonic_ms=400)
    second = msgspec.structs.replace(first, epoch=first.epoch + 1, monotonic_ms=900)
    same = msgspec.structs.replace(first, epoch=first.epoch + 2)
    outcome = ingest.process(batch_of(*map(speaker.message, (first, second, same))), 0)
    assert outcome.stored == 3, "one device that says the same of two spools disturbs nobody"
    with engine.connect() as tx:
        (device,) = read_status(tx, START_MS).devices
    assert device.gaps == 2


def test_a_device_that_moves_while_its_memory_waits_is_stored_once(plant, batch_of):
    engine, speakers = plant.open(), [plant.speaker(f"press-{k:03d}") for k in range(150)]
    ingest = Ingest(engine, SETTINGS)
    for _ in range(2):
        ingest.process(batch_of(*(one.message(one.report()) for one in speakers)), 0)
    moved = speakers[-1]
    with engine.begin() as tx:
        import_places(tx, [Device(device=moved.device, site="hall", product="bolt", imported=True)])
        ask(tx, "devices", "", START_MS)
    assert ingest.process(batch_of(moved.message(moved.report())), 0).stored == 1
    with engine.connect() as tx:
        stored = tx.execute(select(DEVICE.c.site, DEVICE.c.reports).where(DEVICE.c.device == moved.device)).one()
    assert tuple(stored) == ("hall", 3)


def test_of_a_device_that_starts_again_and_again_the_last_boots_are_remembered(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, SETTINGS)
    for first in range(1, 260, 20):
        reports = [msgspec.structs.replace(speaker.report(), boot=boot) for boot in range(first, first + 20)]
        ingest.process(batch_of(*map(speaker.message, reports)), 0)
    with engine.connect() as tx:
        assert tx.scalars(select(BOOT.c.boot).order_by(BOOT.c.boot)).all() == list(range(161, 261))
    assert len(ingest.ledger._offsets) == 100
    mad = [msgspec.structs.replace(speaker.report(), boot=boot) for boot in (1000, 900, 1000)]
    assert ingest.process(batch_of(*map(speaker.message, mad)), 0).stored == 3
    assert Ingest(engine, SETTINGS).ledger.marks[speaker.device, speaker.epoch].contiguous == 263


def test_a_device_that_claims_a_mad_pace_moves_the_dial_little(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest, mad = Ingest(engine, Settings()), plant.speaker("mad-1")
    good = [plant.speaker(f"good-{k}") for k in range(20)]
    births = [msgspec.structs.replace(one.birth(), interval_ms=60_000) for one in good]
    tell = [
        Message(topics.up(one.device, "birth"), encode(birth), START_MS)
        for one, birth in zip(good, births, strict=True)
    ]
    ingest.process(batch_of(*tell, *(one.message(one.report()) for one in good)), 0)
    page_at, watch = ingest.fleet.page_at, next(iter(ingest.fleet.watches.values()))
    clear = watch.detector.clear_windows
    birth = msgspec.structs.replace(mad.birth(), interval_ms=1)
    ingest.process(batch_of(Message(topics.up("mad-1", "birth"), encode(birth), START_MS)), 0)
    ingest.process(batch_of(mad.message(mad.report()), speaker.message(speaker.report())), 0)
    assert ingest.fleet.page_at < page_at + 2 and watch.detector.clear_windows == clear
    assert ingest.registry.shortest_ms == 1000


def test_what_a_candidate_shows_beside_the_model_is_added_up_and_merged_reports_count_once(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest, candidate = Ingest(engine, SETTINGS), bytes(range(8))

    def shadowed(report, frames):
        return msgspec.structs.replace(report, shadow=Shadow(candidate, frames, frames - 1))

    first, second = shadowed(speaker.report(), 10), shadowed(speaker.report(), 10)
    for report in (first, second, first):
        ingest.process(batch_of(speaker.message(report)), START_MS)
    merged = msgspec.structs.replace(shadowed(speaker.report(frames=60), 30), merged=(1, 3))
    for _ in range(2):
        ingest.process(batch_of(speaker.message(merged)), START_MS)
    with engine.connect() as tx:
        (hour,) = read_tally(tx, candidate.hex())
    assert (hour.counts.reports, hour.counts.frames, hour.counts.agreed) == (1, 30, 29)
