"""Leases on a real PostgreSQL: no two workers ever commit for one shard, and nobody's shards stay behind."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack, suppress

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from device_agent.contract.errors import LinesideError
from fleet.leases import ALL, GRACE_MS, LEASE_MS, Fenced, Leases, database_clock_ms, worker_name
from fleet.schema import LEASE, METADATA, WORKER
from fleet.store import make_engine

pytestmark = pytest.mark.postgres


class Clock:
    """The clock of the database, moved by the test."""

    def __init__(self) -> None:
        self.now_ms = 1_760_000_000_000

    def __call__(self, _tx: object) -> int:
        return self.now_ms


class Site:
    """One database, its clock, and workers with connections of their own."""

    def __init__(self, url: str) -> None:
        self.url, self.clock, self.engines = url, Clock(), []

    def engine(self) -> Engine:
        self.engines.append(make_engine(self.url))
        return self.engines[-1]

    def worker(self, name: str, **options: object) -> Leases:
        return Leases(self.engine(), name, clock_ms=self.clock, **options)

    def settle(self, *workers: Leases) -> list[int]:
        """Two rounds, as a worker takes what another gave away before; how many shards each holds."""
        for _ in range(2):
            for one in workers:
                one.acquire()
        return [len(one.held) for one in workers]

    def pass_ms(self, ms: int, *living: Leases) -> None:
        """Time goes by; the living renew."""
        for _ in range(-(-ms // 1000)):
            self.clock.now_ms += 1000
            for one in living:
                commit(one)
                one.acquire()


def commit(leases: Leases) -> frozenset[int]:
    with leases._engine.begin() as tx:
        return leases.renew(tx)


@pytest.fixture(scope="module")
def database(postgres_url: str) -> str:
    """A database that has only what leases need."""
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as tx:
        tx.exec_driver_sql("CREATE DATABASE leases")
    engine.dispose()
    url = postgres_url.rpartition("/")[0] + "/leases"
    engine = create_engine(url)
    METADATA.create_all(engine, tables=[LEASE, WORKER])
    with engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE counter (shard int PRIMARY KEY, n int NOT NULL)")
    engine.dispose()
    return url


@pytest.fixture
def site(database: str):
    site = Site(database)
    wipe(site)
    yield site
    for engine in site.engines:
        engine.dispose()


def wipe(site: Site) -> None:
    with site.engine().begin() as tx:
        tx.exec_driver_sql("TRUNCATE lease, worker, counter")


def test_one_worker_serves_everything_and_a_second_one_half(site):
    first, second, third = (site.worker(name) for name in ("a", "b", "c"))
    assert first.renew(None) == frozenset(), "without leases there is nothing to write, and nothing to ask"
    assert first.acquire() == ALL and first.leads
    assert site.settle(first, second) == [32, 32] and not first.held & second.held
    assert site.settle(first, second, third) == [22, 22, 20]
    assert first.held | second.held | third.held == ALL
    assert sum(one.leads for one in (first, second, third)) == 1


def test_shards_of_a_worker_that_ends_in_order_are_free_at_once(site):
    first, second = site.worker("a"), site.worker("b")
    site.settle(first, second)
    second.release()
    assert second.held == frozenset()
    assert first.acquire() == ALL
    assert commit(second) == frozenset()


def test_shards_of_a_dead_worker_are_served_within_30_s(site):
    first, second = site.worker("a"), site.worker("b")
    site.settle(first, second)
    site.pass_ms(LEASE_MS, second)
    assert len(second.held) == 32, "not before the lease is over"
    site.pass_ms(2_000, second)
    assert second.held == ALL
    assert LEASE_MS + GRACE_MS + 2_000 < 30_000


def test_a_worker_that_sleeps_between_transactions_commits_nothing_when_it_wakes(site):
    first, second = site.worker("a"), site.worker("b")
    site.settle(first, second)
    site.pass_ms(LEASE_MS + 2_000, second)
    with pytest.raises(Fenced, match=r"worker a: shards 0, 1, .* are served by another worker now"):
        commit(first)
    assert first.held, "it does not know better until it asks"
    assert site.settle(first, second) == [32, 32]
    assert commit(first) == first.held


@pytest.mark.parametrize("where", ["between statements", "inside of a copy"])
def test_a_worker_that_sleeps_inside_a_transaction_commits_nothing_when_it_wakes(site, where, eventually):
    """As one that gets SIGSTOP between two statements, or whose machine is cut off: its rows are locked."""
    first, second = site.worker("a"), site.worker("b")
    site.settle(first, second)
    sleeper = first._engine.connect()
    sleeper.begin()
    first.renew(sleeper)
    sleeper.execute(text("INSERT INTO counter VALUES (1, 1)"))
    copying = ExitStack()
    if where == "inside of a copy":
        copy = copying.enter_context(sleeper.connection.cursor().copy("COPY counter FROM STDIN"))
        copy.write_row((2, 1))
    site.pass_ms(LEASE_MS + GRACE_MS, second)
    assert len(second.held) == 32, "its rows are locked, and it may just be slow"
    site.clock.now_ms += 1_000
    second.acquire()
    eventually(lambda: len(second.acquire()) == 64)
    with pytest.raises((LinesideError, psycopg.OperationalError)):
        copying.close()
        sleeper.execute(text("INSERT INTO counter VALUES (3, 1)"))
    with suppress(LinesideError):
        sleeper.close()
    with second._engine.connect() as tx:
        assert tx.scalar(text("SELECT count(*) FROM counter")) == 0
    with pytest.raises(Fenced):
        commit(first)


def test_what_a_lost_connection_of_ones_own_left_behind_is_cleared_away(site, eventually):
    only = site.worker("a")
    only.acquire()
    lost = site.engine().connect()
    lost.begin()
    only.renew(lost)
    only._terms = {}
    only.acquire()
    eventually(only.acquire)
    assert only.held == ALL and commit(only) == ALL
    with suppress(LinesideError, OperationalError):
        lost.close()


def test_a_commit_of_which_the_worker_never_heard_does_no_harm(site):
    only = site.worker("a")
    only.acquire()
    before = dict(only._terms)
    only._terms = {}
    assert only.acquire() == ALL
    assert all(only._terms[shard] > term for shard, term in before.items())


def test_a_worker_may_keep_to_shards_of_its_own(site):
    first, pinned = site.worker("a"), site.worker("b", only=range(10))
    first.acquire()
    pinned.acquire()
    assert site.settle(first, pinned) == [54, 10] and pinned.held == frozenset(range(10))
    site.pass_ms(LEASE_MS + 2_000, first)
    assert first.held == ALL


def test_a_clock_that_was_set_back_or_forward_leaves_no_shard_behind(site):
    first, second = site.worker("a"), site.worker("b")
    site.settle(first, second)
    site.clock.now_ms -= 3_600_000
    site.pass_ms(2_000, second)
    assert second.held == ALL, "a lease of an hour is none that was given now"
    site.clock.now_ms += 7_200_000
    second.acquire()
    assert commit(second) == ALL


def test_on_sqlite_one_worker_has_all(tmp_path):
    engine = make_engine(f"sqlite:///{tmp_path / 'fleet.db'}", create=True)
    leases = Leases(engine, worker_name())
    assert leases.acquire() == ALL and leases.leads
    with engine.begin() as tx:
        assert leases.renew(tx) == ALL
    leases.release()
    assert leases.held == ALL


def test_the_clock_is_that_of_the_database(site):
    with site.engine().begin() as tx:
        first = database_clock_ms(tx)
        tx.execute(text("SELECT pg_sleep(0.01)"))
        assert 5 < database_clock_ms(tx) - first < 60_000


STEPS = [(k, what) for k in range(3) for what in ("acquire", "commit", "open", "close")]
RARE = [*((k, what) for k in range(3) for what in ("die", "release")), (-1, "second"), (-1, "grace"), (-1, "back")]
SCHEDULES = st.lists(st.sampled_from([*3 * STEPS, *8 * [(-1, "lease")], *RARE]), min_size=20, max_size=60)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SCHEDULES)
def test_whatever_happens_no_two_workers_commit_for_one_shard(site, schedule):
    """Three workers in steps. What one commits is of the newest term of its shard, and a term has one owner."""
    wipe(site)
    workers = [site.worker(f"w{k}") for k in range(3)]
    open_tx: dict[int, object] = {}
    newest: dict[int, int] = {}
    owner: dict[tuple[int, int], int] = {}
    lives = Counter()

    def note(k: int, terms: dict[int, int]) -> None:
        for shard, term in terms.items():
            assert term >= newest.get(shard, 0), f"shard {shard}: worker {k} goes on in a term that is over"
            assert owner.setdefault((shard, term), k) == k, f"shard {shard}: two workers in term {term}"
            newest[shard] = term

    for k, what in schedule:
        if k < 0:
            site.clock.now_ms += {"second": 1000, "lease": LEASE_MS + 1, "grace": GRACE_MS + 1, "back": -60_000}[what]
            continue
        leases = workers[k]
        if what == "close" and k in open_tx:
            tx, terms = open_tx.pop(k)
            with suppress(LinesideError):
                tx.commit()
                note(k, terms)
            with suppress(LinesideError):
                tx.close()
        elif k in open_tx:
            continue
        elif what == "acquire":
            leases.acquire()
            note(k, leases._terms)
        elif what == "commit":
            with suppress(Fenced):
                commit(leases)
                note(k, leases._terms)
        elif what == "open":
            tx = leases._engine.connect()
            try:
                leases.renew(tx)
                open_tx[k] = tx, dict(leases._terms)
            except Fenced:
                tx.rollback()
                tx.close()
        elif what == "release":
            leases.release()
        elif what == "die":
            lives[k] += 1
            workers[k] = site.worker(f"w{k}-{lives[k]}")
    for tx, _ in open_tx.values():
        with suppress(LinesideError):
            tx.rollback()
        with suppress(LinesideError):
            tx.close()
    for engine in site.engines:
        engine.dispose()
    site.engines.clear()


def test_threads_that_work_at_once_lose_no_count(site):
    """Each adds one to what it read before for its shards; two at once would lose a count. One of them dies, one sleeps
    with its transaction open, and clocks jump meanwhile."""
    with site.engine().begin() as tx:
        tx.execute(text("INSERT INTO counter SELECT g, 0 FROM generate_series(0, 63) g"))
    done: list[Counter[int]] = [Counter(), Counter(), Counter()]
    fenced = [0, 0, 0]
    turn = threading.Barrier(3, timeout=60)

    def work(k: int) -> None:
        leases = site.worker(f"t{k}")
        for number in range(40):
            turn.wait()
            if k == 0 and number % 10 == 9:
                site.clock.now_ms += LEASE_MS + 1
            if (k, number) == (1, 15):
                leases = site.worker("t1-again")
            try:
                if number % 3 != k:  # it misses turns, and finds out when it writes
                    leases.acquire()
                with leases._engine.begin() as tx:
                    held = sorted(leases.renew(tx))
                    asked = {"held": held}
                    rows = tx.execute(text("SELECT shard, n FROM counter WHERE shard = ANY(:held)"), asked).all()
                    for shard, n in rows:
                        tx.execute(text("UPDATE counter SET n = :n WHERE shard = :s"), {"n": n + 1, "s": shard})
                done[k].update(held)
            except Fenced:
                fenced[k] += 1

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    with site.engine().connect() as tx:
        counts = dict(tx.execute(text("SELECT shard, n FROM counter")).all())
    total = sum(done, Counter())
    assert counts == {shard: total[shard] for shard in range(64)}
    assert sum(map(bool, done)) == 3 and sum(fenced) > 0 and min(counts.values()) > 20
