"""Turns of the monitor without a broker: what one bad message, a failing store or a clock that is set may do."""

from __future__ import annotations

import threading
from collections import deque

import msgspec
import pytest
from sqlalchemy import select

from device_agent.contract import topics
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.errors import NotWritable
from device_agent.contract.session import State
from fleet.detector_fleet import Settings
from fleet.inbox import Message
from fleet.ingest import Ingest
from fleet.leases import Fenced
from fleet.quarantine import read_quarantine
from fleet.registry import Registry
from fleet.schema import REPORT
from fleet.service import Monitor

START_MS = 1_760_000_000_000


class SilentLink:
    """A connection that only holds what came and what was said."""

    def __init__(self) -> None:
        self.messages, self.acks, self.retained = deque(), [], []
        self.arrived, self.connections, self.connected, self.missed = threading.Event(), 0, True, 0

    def start(self) -> None:
        pass

    def hear_no_more(self) -> None:
        self.deaf = True

    def stop(self) -> None:
        pass

    def mend(self) -> None:
        pass

    def serve(self, shards) -> None:
        pass

    def acknowledge(self, acks) -> None:
        self.acks += acks

    def retain(self, topic, payload) -> None:
        self.retained.append(topic)


class Desk:
    """A monitor with clocks that a test sets."""

    def __init__(self, engine) -> None:
        self.wall_ms, self.monotonic_ms, self.said = START_MS, 0, []
        self.link, self.ingest = SilentLink(), Ingest(engine, Settings(interval_ms=1000))
        self.monitor = Monitor(
            engine,
            self.ingest,
            self.link,
            announce=lambda change: None,
            say=self.said.append,
            clock_ms=lambda: self.wall_ms,
            monotonic_ms=lambda: self.monotonic_ms,
        )

    def turn(self, *messages):
        self.link.messages.extend(messages)
        return self.monitor.turn()


def stored(engine):
    with engine.connect() as tx:
        return tx.execute(select(REPORT.c.device, REPORT.c.sequence).order_by(REPORT.c.device)).all()


@pytest.mark.parametrize("error", [OverflowError("too large"), UnicodeEncodeError("utf-8", "x", 0, 1, "surrogate")])
def test_one_message_that_nothing_foresaw_is_set_aside_alone(plant, monkeypatch, error):
    engine, good, evil = plant.open(), plant.speaker("good-1"), plant.speaker("evil-1")
    hear = Registry.hear_report

    def stumble(self, entry):
        if entry.device == "evil-1" and entry.report.sequence == 2:
            raise error
        return hear(self, entry)

    monkeypatch.setattr(Registry, "hear_report", stumble)
    desk = Desk(engine)
    batch = [evil.report() for _ in range(3)]
    outcome = desk.turn(good.message(good.report()), evil.backfill(batch, START_MS), good.message(good.report()))
    assert stored(engine) == [("evil-1", 1), ("evil-1", 3), ("good-1", 1), ("good-1", 2)]
    assert (outcome.stored, outcome.rejected) == (4, 1)
    assert outcome.acks[-1] == ("good-1", good.epoch, 2) and ("evil-1", evil.epoch, 3) in outcome.acks
    with engine.connect() as tx:
        (kept,) = read_quarantine(tx)
    assert kept.device == "evil-1" and kept.reason.startswith(type(error).__name__)
    assert len([line for line in desk.said if "set aside" in line]) == 1
    assert desk.ingest.fleet.readings["good-1"].windows == 2


def test_it_costs_few_transactions_to_find_one_message_among_many(plant, monkeypatch):
    engine, evil = plant.open(), plant.speaker("evil-1")
    good = [plant.speaker(f"good-{k:04d}") for k in range(1500)]
    hear, process, spent = Registry.hear_report, Ingest.process, []

    def stumble(self, entry):
        if entry.device == "evil-1":
            raise OverflowError("too large")
        return hear(self, entry)

    monkeypatch.setattr(Registry, "hear_report", stumble)
    monkeypatch.setattr(Ingest, "process", lambda *given, **named: spent.append(1) or process(*given, **named))
    messages = [one.message(one.report()) for one in good]
    outcome = Desk(engine).turn(*messages[:700], evil.message(evil.report()), *messages[700:])
    assert (outcome.stored, outcome.rejected) == (1500, 1)
    assert len(spent) <= 1 + 32 + 32 + 32 + 1


def test_parts_that_were_stored_are_answered_though_a_later_one_fails(plant, monkeypatch):
    engine, evil = plant.open(), plant.speaker("evil-1")
    good = [plant.speaker(f"good-{k}") for k in range(3)]
    hear, process, turns = Registry.hear_report, Ingest.process, []

    def stumble(self, entry):
        if entry.device == "evil-1":
            raise OverflowError("too large")
        return hear(self, entry)

    def fill_up(self, *given, **named):
        turns.append(1)
        if len(turns) == 4:
            raise NotWritable("disk full")
        return process(self, *given, **named)

    monkeypatch.setattr(Registry, "hear_report", stumble)
    monkeypatch.setattr(Ingest, "process", fill_up)
    desk = Desk(engine)
    messages = [one.message(one.report()) for one in (good[0], good[1], evil, good[2])]
    assert desk.turn(*messages) is None, "the whole, the first and the second part; the third finds the disk full"
    assert [topic_and_payload[0] for topic_and_payload in desk.link.acks] == ["good-0", "good-1"]
    assert desk.turn().rejected == 1 and len(stored(engine)) == 3


def test_what_was_taken_when_another_worker_took_the_shards_is_not_lost(plant, monkeypatch):
    engine, speaker = plant.open(), plant.speaker("press-1")
    desk, process = Desk(engine), Ingest.process
    with monkeypatch.context() as fenced:
        fenced.setattr(Ingest, "process", lambda *_, **__: (_ for _ in ()).throw(Fenced("shards are another's")))
        offline = Message(topics.up("press-1", "state"), encode(State(SCHEMA, 7, False, "lost")), desk.wall_ms)
        assert desk.turn(speaker.message(speaker.report()), offline) is None
    assert Ingest.process is process
    assert desk.turn().stored == 1 and desk.ingest.registry.get("press-1").online is False


def test_a_monitor_that_fails_still_ends_in_order(plant, monkeypatch):
    desk, done = Desk(plant.open()), []
    monkeypatch.setattr("fleet.ingest.pending", lambda *_: 1 / 0)
    monkeypatch.setattr(desk.monitor, "beat", lambda *, ended=False: done.append(f"beat {ended}"))
    monkeypatch.setattr(desk.link, "stop", lambda: done.append("goodbye"))
    with pytest.raises(ZeroDivisionError):
        desk.monitor.run(threading.Event())
    assert done == ["beat True", "goodbye"]


def test_the_end_does_not_wait_for_what_still_comes(plant):
    desk, speaker, stop = Desk(plant.open()), plant.speaker("press-1"), threading.Event()
    more = (speaker.message(speaker.report()) for _ in range(1000))
    acknowledge = desk.link.acknowledge

    def talk(acks):
        acknowledge(acks)
        if not getattr(desk.link, "deaf", False):
            desk.link.messages.append(next(more))

    desk.link.acknowledge = talk
    desk.link.messages.append(next(more))
    stop.set()
    desk.monitor.run(stop)
    assert desk.link.deaf and not desk.link.messages


def test_messages_that_were_left_out_are_said_once(plant):
    desk = Desk(plant.open())
    desk.link.missed = 3
    desk.turn()
    desk.turn()
    assert [line for line in desk.said if "left out" in line] == [
        "3 messages came while too many waited and were left out; devices send reports again"
    ]


def test_a_failure_that_no_message_causes_is_raised(plant, monkeypatch):
    desk = Desk(plant.open())
    monkeypatch.setattr("fleet.ingest.pending", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        desk.turn()


def test_a_store_that_fails_after_a_connect_stops_nothing(plant, monkeypatch):
    speaker, desk = plant.speaker("press-1"), Desk(plant.open())
    desk.link.connections = 1
    with monkeypatch.context() as broken:
        broken.setattr("fleet.service.read_alerts", lambda *_, **__: (_ for _ in ()).throw(NotWritable("disk full")))
        assert desk.turn(speaker.message(speaker.report())) is None
        assert desk.turn() is None
    assert len(desk.said) == 1 and "disk full; nothing is acknowledged, trying again" in desk.said[0]
    assert desk.turn().stored == 1 and desk.said[1:] == ["the store can be written again"]


@pytest.mark.parametrize("set_by_ms", [60_000, START_MS - 5_000])
def test_a_clock_that_is_set_is_said_once_and_what_waited_came_now(plant, set_by_ms):
    engine, speaker = plant.open(), plant.speaker("press-1")
    desk = Desk(engine)
    desk.wall_ms -= set_by_ms
    desk.turn()
    desk.said.clear()
    desk.monotonic_ms += 1000
    desk.wall_ms += 1000
    early = speaker.message(speaker.report())._replace(received_ms=desk.wall_ms)
    desk.turn(early)
    assert desk.said == []
    waiting = speaker.message(speaker.report())._replace(received_ms=desk.wall_ms)
    desk.wall_ms += set_by_ms
    desk.turn(waiting)
    desk.turn()
    assert len(desk.said) == 1 and "the clock of this machine was set by" in desk.said[0]
    with engine.connect() as tx:
        assert tx.scalars(select(REPORT.c.at_ms).order_by(REPORT.c.sequence)).all() == [
            early.received_ms,
            START_MS + 1000,
        ]


def test_topics_of_alerts_hold_nothing_that_mqtt_forbids():
    site = "a\0b\nc/+#\ud800\ufffe\U0001ffffd"
    assert topics.alert(site, "1") == "lineside/1/fleet/alert/a_b_c______d/1"


def test_a_birth_with_a_control_character_stops_nothing(plant):
    speaker, desk = plant.speaker("press-1"), Desk(plant.open(models=False))
    birth = encode(msgspec.structs.replace(speaker.birth(), agent="XX"), encoding="json").replace(b"XX", b"\\ud800")
    outcome = desk.turn(Message(topics.up("press-1", "birth"), birth, 0), speaker.message(speaker.report()))
    assert (outcome.stored, outcome.rejected) == (1, 1)


def test_more_than_one_batch_holds_waits_for_the_next_and_all_is_stored_at_the_end(plant, monkeypatch):
    monkeypatch.setattr("fleet.read_ahead.MOST", 2)
    engine, speaker = plant.open(), plant.speaker("press-1")
    desk = Desk(engine)
    assert desk.turn(*(speaker.message(speaker.report()) for _ in range(5))).stored == 2
    assert desk.link.arrived.is_set() and len(desk.link.messages) == 3
    stop = threading.Event()
    stop.set()
    desk.monitor.run(stop)
    assert len(stored(engine)) == 5 and not desk.link.messages
