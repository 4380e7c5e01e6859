"""Whatever is published: it is counted, shown, and no other device is disturbed; neither by a store that is full."""

from __future__ import annotations

import random
import zlib
from itertools import count

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, func, select, text

from device_agent.contract import topics
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.errors import NotWritable
from device_agent.contract.report import Backfill
from device_agent.contract.session import Event, State
from device_agent.merging import merge
from fleet.detector_fleet import Settings
from fleet.inbox import Batch, Message, read_batch
from fleet.ingest import Ingest
from fleet.quarantine import KEPT_BYTES, read_quarantine
from fleet.registry import Device, import_places
from fleet.schema import QUARANTINE, REPORT

SETTINGS = Settings(interval_ms=1000)
NOW_MS = 1_760_000_000_000
ROUNDS, BATCHES = 9, 3
MOST = 2**63 - 1
KINDS = ("report", "backfill", "birth", "state", "event")
ATTACKS = (
    "noise", "truncated", "flipped", "oversized", "replayed", "future", "extreme", "wrong device", "wrong shard",
    "topic", "bomb", "nested", "backfill", "merged", "state", "birth", "event", "json", "empty",
)  # fmt: skip


class Attacker:
    """A device that may publish on its own topics only, as the broker's access list has it, or noise elsewhere."""

    def __init__(self, plant, name: str, honest: list[Message]) -> None:
        self.speaker, self.honest = plant.speaker(name, seed=9), honest
        self.reports = [self.speaker.report() for _ in range(4)]

    def on(self, kind: str, payload: bytes) -> Message:
        return Message(topics.up(self.speaker.device, kind), payload, NOW_MS)

    def make(self, what: str, rng: random.Random) -> Message:
        """One message of this kind; the numbers come from `rng`."""
        report = rng.choice(self.reports)
        whole, victim = encode(report), rng.choice(self.honest)
        big = rng.choice([0, 1, 2**31, 2**32 - 1, 2**40, 2**42, MOST])
        if what == "noise":
            return self.on(rng.choice(KINDS), rng.randbytes(rng.randrange(200)))
        if what == "truncated":
            payload = rng.choice([whole, victim.payload])
            topic = victim.topic if payload is victim.payload else topics.up(self.speaker.device, "report")
            return Message(topic, payload[: rng.randrange(len(payload))], NOW_MS)
        if what == "flipped":
            content = bytearray(whole)
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            return self.on("report", bytes(content))
        if what == "oversized":
            return self.on(
                rng.choice(KINDS), bytes([rng.choice([0x91, 0xC4, 0x5B])]) * (KEPT_BYTES + rng.randrange(99_999))
            )
        if what == "replayed":
            return rng.choice([victim, self.on("report", whole)])
        if what == "future":
            later = msgspec.structs.replace(
                report, wall_ms=big, monotonic_ms=min(big, 2**42), sequence=rng.randrange(99)
            )
            return self.on("report", encode(later))
        if what == "extreme":
            field = rng.choice(["sequence", "boot", "interval_ms", "dropped", "epoch", "flags", "parts", "frames"])
            return self.on("report", encode(msgspec.structs.replace(report, **{field: big})))
        if what == "wrong device":
            return self.on("report", victim.payload)
        if what == "wrong shard":
            shard = (topics.shard(self.speaker.device) + 1) % 64
            return Message(f"lineside/1/up/{shard:02d}/{self.speaker.device}/report", whole, NOW_MS)
        if what == "topic":
            return Message(
                rng.choice(["", "lineside", "lineside/1/up/xx/y/report", "a/\x07\ufffe/b", "x" * 9999]), whole, NOW_MS
            )
        if what == "bomb":
            return self.on("backfill", zlib.compress(b"\0" * rng.choice([10, 2**21])))
        if what == "nested":
            return self.on(rng.choice(KINDS), rng.choice([b"\x91", b"["]) * rng.choice([3, 5000]))
        if what == "backfill":
            parts = [rng.choice([whole, rng.randbytes(9), whole[:-3], b""]) for _ in range(rng.randrange(5))]
            return self.on("backfill", zlib.compress(encode(Backfill(SCHEMA, parts))))
        if what == "merged":
            wide = msgspec.structs.replace(
                merge(self.reports), merged=(rng.choice([0, 1, 3]), self.reports[-1].sequence)
            )
            return self.on("report", encode(wide))
        if what == "state":
            return self.on(
                "state", encode(State(SCHEMA, big, rng.random() < 0.5, rng.choice(["", "stopped", "\x1b[2J"])))
            )
        if what == "birth":
            birth = msgspec.structs.replace(
                self.speaker.birth(), interval_ms=min(big, 7 * 86_400_000), boot=min(big, 2**32 - 1),
                model=rng.randbytes(8), labels=["x"] * rng.randrange(4),
            )  # fmt: skip
            return self.on("birth", encode(rng.choice([birth, msgspec.structs.replace(birth, labels=["\n"])])))
        if what == "event":
            told = Event(SCHEMA, 1, big, big, rng.choice(["gap", "x" * 40, "\x07"]), "y" * rng.randrange(400))
            return self.on("event", encode(told))
        if what == "json":
            return self.on("report", encode(report, encoding="json")[: rng.choice([None, 40])])
        return self.on(rng.choice(KINDS), b"")


def honest_rounds(plant, site: str) -> list[list[Message]]:
    """Reports of two devices of one site, round by round; one of them sees something new in the end."""
    speakers = [plant.speaker(f"{site}-{k}", seed=k) for k in range(2)]
    looks = ["healthy"] * 5 + ["dirty"] * (ROUNDS - 5)
    return [
        [one.message(one.report(looks[k] if one is speakers[1] else "healthy")) for one in speakers]
        for k in range(ROUNDS)
    ]


def memory(ingest: Ingest, site: str) -> list[object]:
    """What the monitor remembers of the two, without what depends on the size of the fleet."""
    found: list[object] = []
    for k in range(2):
        name = f"{site}-{k}"
        device, reading = ingest.registry.get(name), ingest.fleet.readings[name]
        told = (device.reports, device.frames, device.dropped, device.last_report_ms, device.session, device.online)
        found += [told, reading.windows, reading.score, reading.onset_ms, ingest.fleet.state(name)]
    return found


def counted(engine: Engine) -> int:
    with engine.connect() as tx:
        return int(tx.scalar(select(func.coalesce(func.sum(QUARANTINE.c.times), 0))) or 0)


def size(batch: Batch) -> int:
    return sum(map(len, (batch.reports, batch.births, batch.states, batch.events, batch.rejects)))


NUMBER = count()


@pytest.fixture
def stage(plant):
    """A store that many devices share, and what honest devices come to when nobody disturbs them."""
    sites = [f"control-{next(NUMBER)}"]
    places = {f"{sites[0]}-{k}": (sites[0], "plate") for k in range(2)}
    engine = plant.open(places=places)
    ingest = Ingest(engine, SETTINGS)
    for number, messages in enumerate(honest_rounds(plant, sites[0])):
        ingest.process(read_batch(messages), NOW_MS + number)
    control = memory(ingest, sites[0])
    assert control[7] > 1.0, "what the second one sees must leave something to compare"
    return engine, control


SCHEDULES = st.lists(st.tuples(st.sampled_from(ATTACKS), st.integers(0, ROUNDS - 1)), max_size=40)
FUZZ = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=10, **FUZZ)
@given(SCHEDULES, st.integers(0, 2**32))
def test_whatever_comes_is_counted_and_disturbs_nobody_else(plant, stage, attacks, seed):
    fuzz(plant, stage, attacks, seed)


@pytest.mark.slow
@settings(max_examples=150, **FUZZ)
@given(SCHEDULES, st.integers(0, 2**32))
def test_whatever_comes_in_many_ways_disturbs_nobody_else(plant, stage, attacks, seed):
    fuzz(plant, stage, attacks, seed)


def test_all_kinds_at_once_disturb_nobody_else(plant, stage):
    fuzz(plant, stage, [(what, number) for number in range(ROUNDS) for what in ATTACKS], 1)


def fuzz(plant, stage, attacks: list[tuple[str, int]], seed: int) -> None:
    """Honest reports with attacks between them, a restart now and then: all of it adds up."""
    engine, control = stage
    site, rng = f"hall-{next(NUMBER)}", random.Random(seed)
    with engine.begin() as tx:
        import_places(tx, [Device(device=f"{site}-{k}", site=site, product="plate", imported=True) for k in range(2)])
    rounds = honest_rounds(plant, site)
    attacker = Attacker(plant, f"evil-{site}", rounds[0])
    ingest, before = Ingest(engine, SETTINGS), counted(engine)
    rejected, acks = 0, {}
    for number in range(ROUNDS):
        messages = list(rounds[number])
        for what, at in attacks:
            if at == number:
                messages.insert(rng.randrange(len(messages) + 1), attacker.make(what, rng))
        batch = read_batch(messages)
        assert size(batch) == sum(size(read_batch([message])) for message in messages)
        outcome = ingest.process(batch, NOW_MS + number)
        assert outcome.stored + outcome.repeated == len(batch.reports) and outcome.rejected == len(batch.rejects)
        rejected += outcome.rejected
        acks |= {device: sequence for device, _, sequence in outcome.acks}
        if number % 4 == 3:
            ingest = Ingest(engine, SETTINGS)
    assert counted(engine) - before == rejected, "each is shown"
    for k in range(2):
        assert acks[f"{site}-{k}"] == ROUNDS
        with engine.connect() as tx:
            held = tx.scalars(select(REPORT.c.sequence).where(REPORT.c.device == f"{site}-{k}")).all()
        assert sorted(held) == list(range(1, ROUNDS + 1))
    compare(memory(ingest, site), control)
    compare(memory(Ingest(engine, SETTINGS), site), control)
    with engine.connect() as tx:
        assert all(one.reason for one in read_quarantine(tx))


def compare(found: list[object], control: list[object]) -> None:
    for one, other in zip(found, control, strict=True):
        if isinstance(one, float):
            assert one == pytest.approx(other, rel=1e-4)
        elif isinstance(one, tuple) and isinstance(one[-1], bytes):
            assert one[0] == other[0] and [len(part) for part in one[1:]] == [len(part) for part in other[1:]]
        else:
            assert one == other


@pytest.mark.parametrize("what", ATTACKS)
def test_each_kind_of_message_is_made(plant, what):
    """Each of them is what its name says often enough to matter: read or refused, but never lost without a trace."""
    rng, honest = random.Random(4), honest_rounds(plant, "hall")[0]
    made = [Attacker(plant, "evil-1", honest).make(what, rng) for _ in range(30)]
    sizes = [size(read_batch([message])) for message in made]
    assert max(sizes) > 0 and (min(sizes) > 0 or what in ("backfill",))


@pytest.mark.parametrize(
    "message",
    [
        Message(topics.up("evil-1", "event"), encode(Event(SCHEMA, 1, 1, 1, "gap", "a\0b")), NOW_MS),
        Message(topics.up("evil-1", "event"), encode(Event(SCHEMA, 1, 1, 1, "\0", "")), NOW_MS),
        Message(topics.up("evil-1", "state"), encode(State(SCHEMA, 1, True, "\0")), NOW_MS),
    ],
)
def test_a_nul_in_a_text_takes_no_other_message_with_it(plant, message):
    engine, speaker = plant.open(), plant.speaker("press-1")
    outcome = Ingest(engine, SETTINGS).process(read_batch([message, speaker.message(speaker.report())]), NOW_MS)
    assert outcome.stored == 1


class Full:
    """A store that takes nothing more for a while."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def fill(self, how: str) -> None:
        if self.engine.dialect.name == "postgresql":
            self._ask("SET default_transaction_read_only = on")
        else:
            event.listen(self.engine, "begin", self._limit if how == "full" else self._read_only)
        self.engine.dispose()

    def empty(self) -> None:
        if self.engine.dialect.name == "postgresql":
            self._ask("RESET default_transaction_read_only")
        for listener in (self._limit, self._read_only):
            if event.contains(self.engine, "begin", listener):
                event.remove(self.engine, "begin", listener)
        self.engine.dispose()

    def _ask(self, what: str) -> None:
        with self.engine.connect() as tx:
            tx.execute(text("SET default_transaction_read_only = off"))
            tx.commit()
            tx.execute(text(f"ALTER DATABASE {self.engine.url.database} {what}"))
            tx.commit()

    @staticmethod
    def _limit(connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    @staticmethod
    def _read_only(connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = ON")


def test_a_store_that_is_read_only_for_a_while_loses_nothing(plant):
    stop_for_a_while(plant, "read-only")


def test_a_file_that_is_full_for_a_while_loses_nothing(file_plant):
    stop_for_a_while(file_plant, "full")


def stop_for_a_while(plant, how: str) -> None:
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest, full = Ingest(engine, SETTINGS), Full(engine)
    messages = [speaker.message(speaker.report()) for _ in range(400)]
    assert ingest.process(read_batch(messages[:3]), NOW_MS).stored == 3
    full.fill(how)
    try:
        for _ in range(3):
            with pytest.raises(NotWritable, match={"full": "full", "read-only": "read-?only"}[how]):
                ingest.process(read_batch(messages), NOW_MS)
    finally:
        full.empty()
    outcome = ingest.process(read_batch(messages), NOW_MS)
    assert (outcome.stored, outcome.repeated) == (397, 3) and outcome.acks == [("press-1", speaker.epoch, 400)]
    assert ingest.registry.get("press-1").reports == 400 and ingest.fleet.readings["press-1"].windows == 400
    again = Ingest(engine, SETTINGS)
    assert again.registry.get("press-1").reports == 400 and again.fleet.readings["press-1"].windows == 400
