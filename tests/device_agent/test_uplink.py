"""What is sent when, with a link that only writes down and a clock that stands still."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agent.config import Timing
from device_agent.contract.codec import SCHEMA, decode, encode
from device_agent.contract.errors import BadInput, NotWritable
from device_agent.contract.report import BACKFILL, DeviceReport, read_backfill, read_report
from device_agent.contract.session import Ack, Birth, Event, State
from device_agent.courier import Courier
from device_agent.salvage import open_spool
from device_agent.spool import Damaged, Spool
from device_agent.uplink import Clocks, Uplink

Make = Callable[..., DeviceReport]
BIRTH = Birth(SCHEMA, 0, 0, "0.1", b"modelone", "steel", ["good", "flaw"], "litert-int8", 60_000)


class Sent:
    """A link that writes down what it is given."""

    def __init__(self) -> None:
        self.attempts: list[State] = []
        self.messages: list[tuple[str, bytes, int, bool]] = []
        self.closed: float | None = None
        self.given_up = 0

    def open(self, will: bytes) -> None:
        self.attempts.append(decode(will, State))

    def give_up(self) -> None:
        self.given_up += 1

    def publish(
        self, kind: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int | None = None
    ) -> None:
        self.messages.append((kind, payload, qos, retain))

    def close(self, timeout_s: float) -> None:
        self.closed = timeout_s

    def take(self, kind: str) -> list[bytes]:
        """Payloads of this kind since the last call, which forgets all others."""
        found = [payload for given, payload, _, _ in self.messages if given == kind]
        self.messages.clear()
        return found


class Bench:
    """An uplink on a bench."""

    def __init__(
        self, folder: Path, clock: Any, make_report: Make, encoding: str = "msgpack", opening: Any = None
    ) -> None:
        self.link, self.clock, self.logged = Sent(), clock, list[tuple[str, str]]()
        self.make_report = make_report

        def log(kind: str, text: str) -> None:
            self.logged.append((kind, text))

        self.opening: Callable[[], Spool] = opening or (lambda: open_spool(folder, log))
        self.uplink = Uplink(
            lambda: self.opening(),
            self.link,
            timing=Timing.of(60),
            clocks=Clocks(clock.seconds, lambda: 1.7e9),
            log=log,
            rng=random.Random(1),
            encoding=encoding,
        )
        self.uplink.serves(BIRTH)

    @property
    def spool(self) -> Spool:
        assert self.uplink._spool is not None
        return self.uplink._spool

    def report(self, count: int = 1) -> None:
        for _ in range(count):
            self.uplink.report(self.make_report())

    def connect(self) -> None:
        self.uplink.tick()
        self.uplink.connected()

    def ack(self, sequence: int, epoch: int | None = None) -> None:
        self.uplink.acknowledged(encode(Ack(SCHEMA, self.spool.epoch if epoch is None else epoch, sequence)))

    def later(self, seconds: float) -> None:
        self.clock.pass_s(seconds)
        self.uplink.tick()

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.logged]


@pytest.fixture
def bench(tmp_path: Path, clock: Any, make_report: Make) -> Iterator[Bench]:
    bench = Bench(tmp_path, clock, make_report)
    yield bench
    bench.uplink.close()


def sequences(payloads: list[bytes]) -> list[int]:
    return [report.sequence for payload in payloads for report in read_backfill(payload)]


def test_says_who_it_is_at_every_connection(bench: Bench) -> None:
    bench.connect()
    (kind, payload, qos, retain), (birth_kind, birth, _, birth_retain) = bench.link.messages[:2]
    state = decode(payload, State)
    assert (kind, state.online, qos, retain) == ("state", True, 1, True)
    assert state.session == bench.spool.boot * 65_536 + 1 == bench.link.attempts[0].session
    assert not bench.link.attempts[0].online
    known = decode(birth, Birth)
    assert (birth_kind, birth_retain) == ("birth", True)
    assert (known.epoch, known.boot, known.labels) == (bench.spool.epoch, bench.spool.boot, ["good", "flaw"])
    bench.uplink.disconnected("gone")
    bench.later(300)
    bench.uplink.connected()
    assert bench.link.attempts[1].session == state.session + 1
    assert len(bench.link.take("birth")) == 2


def test_sends_live_and_keeps_until_acknowledged(bench: Bench) -> None:
    bench.connect()
    bench.report(3)
    live = [read_report(payload) for payload in bench.link.take("report")]
    assert [report.sequence for report in live] == [1, 2, 3]
    assert not any(report.flags & BACKFILL for report in live)
    bench.ack(2)
    assert [row.sequence for row in bench.spool.pending()] == [3]
    bench.ack(3)
    assert bench.spool.pending() == []
    bench.later(10_000)
    assert bench.link.take("backfill") == []


def test_what_was_kept_goes_in_batches_one_at_a_time(bench: Bench) -> None:
    bench.report(150)
    bench.connect()
    first = bench.link.take("backfill")
    assert sequences(first) == list(range(1, 61))
    assert all(report.flags & BACKFILL for report in read_backfill(first[0]))
    bench.later(5)
    assert bench.link.take("backfill") == []
    bench.ack(60)
    assert sequences(bench.link.take("backfill")) == list(range(61, 121))
    bench.report()
    assert [read_report(payload).sequence for payload in bench.link.take("report")] == [151]
    bench.ack(120)
    assert sequences(bench.link.take("backfill")) == list(range(121, 151))
    bench.ack(151)
    assert bench.spool.pending() == []


def test_a_batch_fits_into_eight_kilobytes(bench: Bench) -> None:
    for k in range(60):
        bench.uplink.report(bench.make_report(5000, seed=k))
    bench.connect()
    payloads = bench.link.take("backfill")
    assert len(payloads[0]) <= 8 << 10
    assert sequences(payloads) == list(range(1, len(sequences(payloads)) + 1))


def test_a_lost_batch_is_sent_again_though_live_reports_are_acknowledged(
    tmp_path: Path, clock: Any, make_report: Make
) -> None:
    """What is left of a boot that was killed has another epoch: acknowledgements of now never name it."""
    killed = open_spool(tmp_path, lambda *_: None)
    old = killed.add(make_report())
    killed.abandon()
    bench = Bench(tmp_path, clock, make_report)
    bench.connect()
    assert len(bench.link.take("backfill")) == 1
    for sequence in range(1, 6):  # nobody heard it, but what comes now is heard
        bench.later(10)
        bench.report()
        bench.ack(sequence)
    (again,) = bench.link.take("backfill")
    assert next((one.epoch, one.sequence) for one in read_backfill(again)) == (old.epoch, old.sequence)
    bench.uplink.close()


def test_a_batch_without_progress_is_sent_again_after_30_s(bench: Bench) -> None:
    bench.report(70)
    bench.connect()
    assert len(sequences(bench.link.take("backfill"))) == 60
    bench.later(29)
    assert bench.link.take("backfill") == []
    bench.later(2)
    assert sequences(bench.link.take("backfill")) == list(range(1, 61))
    bench.ack(40)
    bench.later(31)
    assert sequences(bench.link.take("backfill")) == list(range(41, 71))


def test_live_without_progress_is_sent_again_after_360_s(bench: Bench) -> None:
    bench.connect()
    for _ in range(7):
        bench.report()
        bench.later(50)
    assert bench.link.take("backfill") == []
    bench.later(20)
    assert sequences(bench.link.take("backfill")) == list(range(1, 8))


def test_a_new_connection_sends_everything_again(bench: Bench) -> None:
    bench.connect()
    bench.report(4)
    bench.ack(1)
    bench.uplink.disconnected("reset")
    bench.report()
    bench.link.messages.clear()
    bench.later(300)
    bench.uplink.connected()
    assert sequences(bench.link.take("backfill")) == [2, 3, 4, 5]


def test_acknowledgements_that_are_none_change_nothing(bench: Bench) -> None:
    bench.connect()
    bench.report(3)
    for payload in (b"", b"\xff" * 9, encode(Ack(2 * 16, bench.spool.epoch, 3))):
        bench.uplink.acknowledged(payload)
    bench.ack(99)
    bench.ack(3, epoch=bench.spool.epoch ^ 1)
    assert len(bench.spool.pending()) == 3
    assert bench.kinds().count("ack_refused") == 1, "a flood of them is one event"
    bench.ack(1)
    assert bench.logged[-1] == ("ack_refused", "3 more were refused")
    assert len(bench.spool.pending()) == 2


def test_waits_longer_from_failure_to_failure_and_says_it_once(bench: Bench) -> None:
    waits = []
    for _ in range(200):
        before = len(bench.link.attempts)
        waited = 0.0
        while len(bench.link.attempts) == before:
            bench.later(0.5)
            waited += 0.5
        bench.uplink.disconnected("the broker does not answer")
        waits.append(waited)
    assert waits[0] == 0.5 and waits[1] <= 40.5, "at once, and then soon"
    assert max(waits) <= 301 and max(waits) > 200
    assert min(waits[20:]) >= 1 and sorted(waits[20:])[20] < 60, "full jitter reaches down"
    assert bench.kinds() == ["broker_unreachable"]
    bench.later(300)
    bench.uplink.connected()
    bench.uplink.disconnected("reset")
    assert bench.kinds() == ["broker_unreachable", "broker_connected", "broker_unreachable"]


def test_an_attempt_without_an_answer_is_given_up(bench: Bench) -> None:
    bench.later(0)
    bench.later(9)
    assert (len(bench.link.attempts), bench.link.given_up) == (1, 0)
    bench.later(2)
    assert bench.link.given_up == 1
    bench.later(300)
    assert len(bench.link.attempts) == 2


def test_a_refusal_is_an_event(bench: Bench) -> None:
    bench.uplink.tick()
    for _ in range(3):
        bench.uplink.disconnected("the broker refuses: not authorized", refused=True)
    assert bench.kinds().count("not_authorized") == 1
    bench.uplink.rejected("a message was not taken: quota exceeded")
    bench.later(300)
    bench.uplink.connected()
    events = [decode(payload, Event) for payload in bench.link.take("event")]
    assert [event.kind for event in events] == ["not_authorized", "quota_exceeded"]


def test_without_a_broker_reports_stay(tmp_path: Path, clock: Any, make_report: Make) -> None:
    bench = Bench(tmp_path, clock, make_report)
    bench.uplink._link = None
    bench.report(2)
    bench.later(1000)
    assert bench.link.attempts == []
    bench.uplink.close()
    spool = open_spool(tmp_path, lambda *_: None)
    assert len(spool.pending()) == 2 and not spool.crashed
    spool.close()


def test_a_full_disk_keeps_reports_in_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    add, full = bench.spool.add, [True]

    def failing(report: DeviceReport, **options: bool) -> Any:
        if full:
            raise NotWritable("spool.db: database or disk is full")
        return add(report, **options)

    monkeypatch.setattr(bench.spool, "add", failing)
    bench.connect()
    for k in range(3000):
        bench.uplink.report(bench.make_report(k % 7, seed=k))
    assert len(bench.uplink._unsaved) <= 1440
    assert bench.kinds() == ["broker_connected", "spool_unwritable"]
    full.clear()
    bench.later(1)
    assert bench.kinds()[-1] == "spool_writable"
    rows = bench.spool.pending(limit=-1)
    assert sum(read_report(row.payload).frames for row in rows) == sum(k % 7 for k in range(3000))
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))


def test_json_for_people(tmp_path: Path, clock: Any, make_report: Make) -> None:
    bench = Bench(tmp_path, clock, make_report, encoding="json")
    bench.connect()
    bench.report()
    payloads = [payload for kind, payload, _, _ in bench.link.messages if kind in ("report", "birth")]
    assert [payload[:1] for payload in payloads] == [b"[", b"["]
    assert decode(payloads[0], Birth).encoding == "json"
    assert read_report(payloads[1]).sequence == 1
    bench.uplink.close()


def test_a_birth_with_a_thousand_labels_stays_small(bench: Bench) -> None:
    labels = [f"class number {k}" for k in range(1000)]
    bench.uplink.serves(Birth(SCHEMA, 0, 0, "0.1", b"modelone", "steel", labels, "litert-int8", 60_000))
    bench.connect()
    (payload,) = bench.link.take("birth")
    assert len(payload) <= 1024 and decode(payload, Birth).labels == []


def test_leaves_in_order(bench: Bench) -> None:
    bench.connect()
    bench.report()
    bench.uplink.close(1.5)
    assert not decode(bench.link.take("state")[-1], State).online
    assert bench.link.closed == 1.5


def test_a_spool_that_breaks_while_running_is_changed(bench: Bench, tmp_path: Path) -> None:
    bench.connect()
    bench.report(3)
    bench.spool._run("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / "spool.db").open("r+b") as file:
        file.write(b"\0" * 4096 * 6)
    bench.spool._run("PRAGMA shrink_memory")
    before = bench.spool.epoch
    bench.report(2)
    spool = bench.spool
    assert "spool_salvaged" in bench.kinds()
    assert spool.epoch != before and sum(row.epoch == spool.epoch for row in spool.pending()) == 2


def test_damage_that_only_use_shows_is_salvaged_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise Damaged("spool.db: database disk image is malformed")

    bench.report(3)
    monkeypatch.setattr(bench.spool, "add", broken)
    bench.report(2)
    bench.later(1)
    assert bench.kinds() == ["spool_salvaged"]
    assert [row.sequence for row in bench.spool.pending()] == [1, 2, 3, 1, 2]


def test_a_damaged_report_does_not_stop_the_backlog(bench: Bench) -> None:
    bench.report(10)
    bench.spool._run("UPDATE report SET payload = x'00' WHERE sequence IN (1, 4)")
    bench.connect()
    assert sequences(bench.link.take("backfill")) == [2, 3, 5, 6, 7, 8, 9, 10]
    told = [text.rpartition(" ")[2] for kind, text in bench.logged if kind == "report_damaged"]
    assert told == ["1", "4"] and "spool_unwritable" not in bench.kinds()


def test_an_acknowledgement_deletes_only_what_was_sent(bench: Bench) -> None:
    bench.report(100)
    bench.connect()
    bench.ack(100)
    assert [row.sequence for row in bench.spool.pending(limit=-1)] == list(range(61, 101))
    assert bench.kinds().count("ack_refused") == 1
    assert sequences(bench.link.take("backfill"))[60:] == list(range(61, 101)), "what was kept is sent"
    bench.ack(100)
    assert bench.spool.pending() == []


def full() -> Spool:
    raise NotWritable("spool.db: database or disk is full")


def test_without_a_spool_it_begins_and_stores_later(tmp_path: Path, clock: Any, make_report: Make) -> None:
    bench = Bench(tmp_path, clock, make_report, opening=full)
    bench.report(3)
    bench.connect()
    assert bench.kinds() == ["spool_unwritable", "broker_connected"]
    (event,) = (decode(payload, Event) for payload in bench.link.take("event"))
    assert (event.kind, event.boot) == ("spool_unwritable", 0)
    bench.ack(3, epoch=1)
    bench.opening = lambda: open_spool(tmp_path, lambda *_: None)
    bench.later(11)
    assert bench.link.closed is not None and bench.link.attempts[-1].session >> 16 == bench.spool.boot
    bench.uplink.connected()
    assert decode(bench.link.take("birth")[0], Birth).epoch == bench.spool.epoch
    assert [row.sequence for row in bench.spool.pending()] == [1, 2, 3]
    assert "spool_writable" in bench.kinds()
    assert bench.uplink.close() == ""


def test_what_could_not_be_stored_is_said_to_be_lost(tmp_path: Path, clock: Any, make_report: Make) -> None:
    bench = Bench(tmp_path, clock, make_report, opening=full)
    for frames in (10, 20, 30):
        bench.uplink.report(make_report(frames))
    assert bench.uplink.close() == "3 reports (60 frames) are lost: they could not be stored"
    assert bench.kinds() == ["spool_unwritable", "reports_lost"]


def test_a_courier_that_loses_reports_says_so(tmp_path: Path, clock: Any, make_report: Make) -> None:
    courier, bench = Courier(), Bench(tmp_path, clock, make_report, opening=full)
    courier.start(lambda: bench.uplink)
    courier.put(make_report(7))
    with pytest.raises(NotWritable, match=r"1 reports \(7 frames\) are lost"):
        courier.stop()


def test_a_spool_in_use_is_refused_at_the_start_only(tmp_path: Path, clock: Any, make_report: Make) -> None:
    first = Bench(tmp_path, clock, make_report)
    with pytest.raises(BadInput, match="another agent"):
        Bench(tmp_path, clock, make_report)
    first.spool.abandon()
    first.uplink._spool, other = None, open_spool(tmp_path, lambda *_: None)
    first.report()
    assert first.kinds() == ["spool_unwritable"]
    other.close()
    first.later(11)
    assert [row.sequence for row in first.spool.pending()] == [1]
    first.uplink.close()


def test_connections_that_do_not_hold_wait_longer_and_are_an_event(bench: Bench) -> None:
    def wait() -> float:
        attempts, waited = len(bench.link.attempts), 0.0
        while len(bench.link.attempts) == attempts:
            bench.later(0.5)
            waited += 0.5
        return waited

    waits = []
    bench.connect()
    for _ in range(30):
        bench.uplink.disconnected("the connection ended: session taken over")
        waits.append(wait())
        bench.uplink.connected()
    assert max(waits) > 60
    assert bench.kinds().count("duplicate_device") == 1
    bench.later(60)
    bench.uplink.disconnected("gone")
    assert wait() <= 40.5, "one that held ends the row"
