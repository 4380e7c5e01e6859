"""Several workers on one PostgreSQL store: nothing is lost, counted twice or told twice, whoever serves a device."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sqlalchemy import func, select, update

from device_agent.contract import topics
from device_agent.contract.session import State
from fleet.alerts import read_alerts
from fleet.detector_fleet import Settings
from fleet.inbox import Batch, read_batch
from fleet.ingest import Ingest, Outcome
from fleet.leases import LEASE_MS, Fenced, Leases
from fleet.requests import ask
from fleet.schema import AUDIT, DEVICE, REPORT
from tests.fleet.conftest import START_MS

pytestmark = pytest.mark.postgres
NAMES = [f"cam-{k}" for k in range(10)]
PLACES = dict.fromkeys(NAMES, ("hall-1", "plate"))


class Clock:
    """The database's clock, set by the test."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self, _tx: object) -> int:
        return self.now_ms


class Worker:
    """Leases and memory of one worker, with connections of its own."""

    def __init__(self, plant, name: str, clock: Clock, **options) -> None:
        self.engine, self.clock = plant.open(places=PLACES), clock
        self.leases = Leases(self.engine, name, clock_ms=clock, **options)
        self.leases.acquire()
        self.ingest = Ingest(
            self.engine, Settings(interval_ms=1000), leases=self.leases, monotonic_ms=lambda: clock.now_ms - START_MS
        )

    def keep_leases(self) -> None:
        before = self.ingest.marks.held
        if self.leases.acquire() != before:
            self.ingest.load()

    def take(self, *messages) -> Outcome:
        return self.ingest.process(read_batch(list(messages)), self.clock.now_ms)


class Site:
    """Ten cameras of one site and the workers of their monitor, a report of each camera a second."""

    def __init__(self, plant, *workers: str) -> None:
        self.plant, self.clock = plant, Clock()
        self.speakers = {name: plant.speaker(name, seed=k) for k, name in enumerate(NAMES)}
        self.workers: list[Worker] = []
        for name in workers:
            self.join(name)
        self.acked: dict[str, int] = {}

    def join(self, name: str, **options) -> Worker:
        self.workers.append(Worker(self.plant, name, self.clock, **options))
        for _ in range(2):
            for worker in self.workers:
                worker.keep_leases()
        return self.workers[-1]

    def tick(self, look=lambda _name: "healthy", stay: int = 2) -> list:
        """A second: every worker hears everything, as far as a late unsubscribe makes it."""
        self.clock.now_ms += 1000
        messages = [one.message(one.report(look(name), stay=stay)) for name, one in self.speakers.items()]
        changes = []
        for worker in self.workers:
            worker.keep_leases()
            outcome = worker.take(*messages)
            self.acked |= {device: sequence for device, _, sequence in outcome.acks}
            changes += outcome.changes
        return changes

    def stored(self) -> dict[str, list[int]]:
        with self.workers[0].engine.connect() as tx:
            rows = tx.execute(select(REPORT.c.device, REPORT.c.sequence).order_by(REPORT.c.sequence)).all()
        return {name: [row.sequence for row in rows if row.device == name] for name in NAMES}


@pytest.fixture
def plant(postgres_url, tmp_path):
    from tests.fleet.conftest import Plant

    plant = Plant(tmp_path, postgres_url)
    yield plant
    plant.close()


def test_two_workers_store_every_report_once_and_acknowledge_all(plant):
    site = Site(plant, "a", "b")
    first, second = (worker.ingest.marks for worker in site.workers)
    assert not first.held & second.held and first.held | second.held == frozenset(range(topics.SHARDS))
    assert {first.holds(name) for name in NAMES} == {True, False}, "the cameras must be spread over both"
    for _ in range(12):
        site.tick()
    assert site.stored() == {name: list(range(1, 13)) for name in NAMES}
    assert site.acked == dict.fromkeys(NAMES, 12)
    for worker in site.workers:
        worker.ingest.everything = True
    with site.workers[0].engine.connect() as tx:
        assert tx.scalar(select(func.sum(DEVICE.c.reports))) == 120


def test_a_worker_that_dies_leaves_nothing_behind(plant):
    site = Site(plant, "a", "b")
    for _ in range(8):
        site.tick()
    dead = site.workers.pop()
    unserved = {name for name in NAMES if dead.ingest.marks.holds(name)}
    assert unserved
    site.tick()
    assert {name for name, found in site.stored().items() if len(found) == 8} == unserved
    site.clock.now_ms += LEASE_MS + 1000
    for _ in range(3):
        site.workers[0].keep_leases()
    heir = site.workers[0]
    assert heir.ingest.marks.held == frozenset(range(topics.SHARDS))
    again = [one.message(plant_report) for one, plant_report in _kept(site, unserved)]
    heir.take(*again)
    for _ in range(3):
        site.tick()
    assert site.stored() == {name: list(range(1, 13)) for name in NAMES}
    registry = heir.ingest.registry
    assert {name: registry.get(name).reports for name in NAMES} == dict.fromkeys(NAMES, 12)


def _kept(site: Site, names: set[str]):
    """The last report of each device, which nobody acknowledged."""
    for name in sorted(names):
        speaker = site.speakers[name]
        speaker.sequence -= 1
        yield speaker, speaker.report()


def test_detectors_go_on_where_the_other_worker_left_them(plant):
    """The scores of a fleet that was served by changing workers are those of one that one worker served."""

    def look(name):
        return "dirty" if name == "cam-3" else "healthy"

    def run(changing: bool):
        site = Site(plant, "a", "b") if changing else Site(plant, "a")
        for second in range(36):
            if changing and second == 12:
                site.join("c")
            if changing and second == 24:
                site.workers.pop(0).leases.release()
                for worker in site.workers * 2:
                    worker.keep_leases()
            site.tick(look if second > 15 else lambda _name: "healthy")
        found = {}
        for worker in site.workers:
            fleet = worker.ingest.fleet
            found |= {name: fleet.readings[name] for name in NAMES if worker.ingest.marks.holds(name)}
        return site, found

    site, alone = run(changing=False)
    plant.wipe(site.workers[0].engine)
    _, changing = run(changing=True)
    assert alone["cam-3"].level > 0 and set(changing) == set(NAMES)
    for name in NAMES:
        assert changing[name].level == alone[name].level, name
        assert changing[name].windows == alone[name].windows, name


def test_a_worker_whose_shards_were_taken_writes_nothing(plant):
    site = Site(plant, "a", "b")
    site.tick()
    late, other = site.workers
    site.clock.now_ms += LEASE_MS + 1000
    for _ in range(3):
        other.keep_leases()
    message = [one.message(one.report()) for one in site.speakers.values()]
    before = site.stored()
    with pytest.raises(Fenced, match="served by another worker now; nothing is written"):
        late.take(*message)
    assert site.stored() == before
    late.keep_leases()
    other.keep_leases()
    late.take(*message)
    other.take(*message)
    assert site.stored() == {name: [1, 2] for name in NAMES}


def test_the_leader_tells_of_devices_of_all_workers(plant):
    """One page for each dirty lens, whoever serves it; a frozen camera of another worker too."""
    site = Site(plant, "a", "b")
    leader = next(worker for worker in site.workers if worker.leases.leads)
    abroad = next(name for name in NAMES if not leader.ingest.marks.holds(name))
    for _ in range(40):
        site.tick()
    changes = []
    for _ in range(40):
        changes += site.tick(lambda name: "dirty" if name == abroad else "healthy")
    opened = [change.alert for change in changes if change.what == "opened"]
    assert [(alert.scope, alert.scope_kind) for alert in opened] == [(abroad, "device")]
    with leader.engine.connect() as tx:
        assert [alert.scope for alert in read_alerts(tx)] == [abroad]
    with leader.engine.begin() as tx:
        ask(tx, "acknowledge", opened[0].id, 0)
    closed = [change for change in site.tick() + site.tick() if change.what == "closed"]
    assert [change.alert.scope for change in closed] == [abroad]
    owner = next(worker for worker in site.workers if worker.ingest.marks.holds(abroad))
    assert owner.ingest.fleet.readings[abroad].level == 0, "its detector starts from nothing"


def test_requests_are_followed_once_by_everybody_and_settled_once(plant):
    site = Site(plant, "a", "b")
    for _ in range(5):
        site.tick()
    forgotten = []
    for worker in site.workers:
        forget = worker.ingest.fleet.forget
        worker.ingest.fleet.forget = lambda device, forget=forget: (forgotten.append(device), forget(device))
    with site.workers[0].engine.begin() as tx:
        ask(tx, "changeover", "hall-1", 0)
    for _ in range(3):
        site.tick()
    assert sorted(forgotten) == sorted(NAMES)
    with site.workers[0].engine.connect() as tx:
        assert tx.execute(select(AUDIT.c.outcome)).scalars().all() == ["10 devices start from nothing"]
    forgotten.clear()
    site.workers.pop().leases.release()
    for _ in range(3):
        site.tick()
    assert not forgotten, "whoever takes a shard over does not do again what was done"


def test_peers_of_other_workers_count(plant):
    """What all cameras of a hall see together is no fault of one, even of one that stands alone in its worker."""
    site = Site(plant, "a", "b")
    for _ in range(150):
        site.tick()
    for worker in site.workers:
        groups = worker.ingest.fleet.peer_groups().values()
        for one in groups:
            mine = [name for name in NAMES if worker.ingest.marks.holds(name)]
            rows = one.place(mine, [("hall-1", "plate")] * len(mine))
            assert one.count(rows).tolist() == [9] * len(mine)


def test_a_device_that_falls_silent_is_told_by_the_leader_whoever_serves_it(plant):
    site = Site(plant, "a", "b")
    leader = next(worker for worker in site.workers if worker.leases.leads)
    abroad = next(name for name in NAMES if not leader.ingest.marks.holds(name))
    site.tick()
    silent = site.speakers.pop(abroad)
    changes = []
    for _ in range(420):
        changes += site.tick()
    assert [(one.alert.stream, one.alert.scope) for one in changes if one.what == "opened"] == [("silent", abroad)]
    site.speakers[abroad] = silent
    changes = []
    for _ in range(60):
        changes += site.tick()
    assert [(one.what, one.alert.scope) for one in changes] == [("closed", abroad)]


def test_what_is_of_other_shards_is_nobodys_but_theirs(plant):
    site = Site(plant, "a", "b")
    worker = site.workers[0]
    other = next(name for name in NAMES if not worker.ingest.marks.holds(name))
    own = next(name for name in NAMES if worker.ingest.marks.holds(name))
    batch = Batch(states=[(other, State(16, 5, True), 0), (own, State(16, 5, True), 0)])
    kept = batch.only(worker.ingest.marks.holds)
    assert [state[0] for state in kept.states] == [own]


def test_a_worker_may_keep_to_shards(plant):
    site = Site(plant, "a")
    kept = site.join("b", only=range(8))
    assert kept.ingest.marks.held == frozenset(range(8)) and kept.leases.leads
    assert site.workers[0].ingest.marks.held == frozenset(range(8, topics.SHARDS))


def test_the_number_of_a_batch_grows_when_a_shard_changes_hands(plant):
    """The clock of the heir may be behind: what it stores must not look older than what it took over."""
    site = Site(plant, "a")
    site.clock.now_ms += 3_600_000
    site.tick()
    with site.workers[0].engine.connect() as tx:
        before = tx.scalar(select(func.max(REPORT.c.batch)))
    site.workers.pop().leases.release()
    site.clock.now_ms -= 3_600_000
    site.join("b")
    site.tick()
    with site.workers[0].engine.connect() as tx:
        after = tx.execute(select(REPORT.c.batch).where(REPORT.c.sequence == 2)).scalars().all()
    assert min(after) > before


def test_memory_of_a_device_is_the_same_after_any_hand_over(plant):
    rng = np.random.default_rng(3)
    site = Site(plant, "a", "b", "c")
    for second in range(30):
        if second % 6 == 5:
            gone = site.workers.pop(int(rng.integers(len(site.workers))))
            if rng.random() < 0.5:
                gone.leases.release()
            else:
                with gone.engine.begin() as tx:
                    from fleet.schema import LEASE

                    tx.execute(update(LEASE).where(LEASE.c.worker == gone.leases.worker).values(expires_ms=0))
            site.join(f"w{second}")
        site.tick()
    held = {name: worker for worker in site.workers for name in NAMES if worker.ingest.marks.holds(name)}
    for name, worker in held.items():
        device = worker.ingest.registry.get(name)
        stored = site.stored()[name]
        assert device.reports == len(stored) == len(set(stored))
        assert msgspec.structs.asdict(worker.ingest.fleet.readings[name])["windows"] <= 30


def test_a_deployment_on_another_workers_device_closes_its_alert(plant):
    site = Site(plant, "a", "b")
    leader = next(worker for worker in site.workers if worker.leases.leads)
    abroad = next(name for name in NAMES if not leader.ingest.marks.holds(name))
    for _ in range(40):
        site.tick()
    for _ in range(40):
        site.tick(lambda name: "dirty" if name == abroad else "healthy")
    site.speakers[abroad].model = plant.model_ids[1]
    changes = []
    for _ in range(130):
        changes += site.tick()
    assert {one.alert.scope for one in changes} == {abroad} and changes[-1].what == "closed"
    assert "now runs model" in changes[-1].alert.closed_reason
