"""Sums of peers that live in several workers: every device once, in the last minute that all shards have closed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from fleet.peer_sums import WAIT_MINUTES, close_minute, closed_minute, read_sums
from fleet.schema import PEER_MINUTE, PEER_SUM

HALL, YARD = ("hall", "tin"), ("yard", "")
LOW, HIGH = frozenset(range(32)), frozenset(range(32, 64))
ALL = LOW | HIGH
MINUTE = 29_333_333


def one(value: float, place: tuple[str, str] = HALL) -> dict[str, tuple[list[tuple[str, str]], np.ndarray]]:
    return {"steel": ([place], np.array([[value, 10 * value]]))}


def hall(tx, minute: int, **options: str) -> float:
    places, sums = read_sums(tx, minute, "steel", 2, **options)
    return float(sums[places.index(HALL), 0])


def test_a_minute_counts_when_every_shard_has_closed_it(plant):
    with plant.open().begin() as tx:
        assert closed_minute(tx, MINUTE) is None
        assert close_minute(tx, "a", LOW, MINUTE - 1, one(1.0))
        assert close_minute(tx, "b", HIGH, MINUTE - 1, one(2.0))
        assert close_minute(tx, "a", LOW, MINUTE, one(4.0))
        assert closed_minute(tx, MINUTE) == MINUTE - 1
        assert hall(tx, MINUTE - 1) == 3.0 and hall(tx, MINUTE - 1, but="a") == 2.0
        assert close_minute(tx, "b", HIGH, MINUTE, {"steel": ([HALL, YARD], np.array([[8.0, 1.0], [5.0, 6.0]]))})
        assert closed_minute(tx, MINUTE) == MINUTE and hall(tx, MINUTE) == 12.0
        places, sums = read_sums(tx, MINUTE, "steel", 2)
        assert places == [HALL, YARD] and sums.tolist() == [[12.0, 41.0], [5.0, 6.0]]


def test_models_and_widths_stay_apart(plant):
    with plant.open().begin() as tx:
        mixed = {"steel": ([HALL], np.array([[1.0, 2.0]])), "glass": ([HALL, YARD], np.array([[3.0], [4.0]]))}
        close_minute(tx, "a", ALL, MINUTE, mixed)
        assert read_sums(tx, MINUTE, "glass", 1)[1].tolist() == [[3.0], [4.0]]
        for model, width in (("glass", 2), ("wood", 1)):
            places, sums = read_sums(tx, MINUTE, model, width)
            assert places == [] and sums.shape == (0, width)


def test_a_shard_that_changes_hands_within_a_minute_is_counted_once(plant):
    with plant.open().begin() as tx:
        close_minute(tx, "a", LOW, MINUTE - 1, one(1.0))
        close_minute(tx, "b", HIGH, MINUTE - 1, one(2.0))
        assert close_minute(tx, "a", LOW, MINUTE, one(1.0))
        assert not close_minute(tx, "b", HIGH | {3}, MINUTE, one(2.5)), "a has counted shard 3 in this minute"
        assert closed_minute(tx, MINUTE) == MINUTE - 1 and hall(tx, MINUTE - 1) == 3.0
        assert close_minute(tx, "b", HIGH | {3}, MINUTE + 1, one(2.5))
        assert close_minute(tx, "a", LOW - {3}, MINUTE + 1, one(0.5))
        assert closed_minute(tx, MINUTE + 1) == MINUTE + 1 and hall(tx, MINUTE + 1) == 3.0


def test_a_dead_worker_holds_others_up_for_some_minutes_only(plant):
    with plant.open().begin() as tx:
        close_minute(tx, "dead", LOW, MINUTE, one(1.0))
        for later in range(WAIT_MINUTES + 2):
            close_minute(tx, "b", HIGH, MINUTE + later, one(2.0))
            assert closed_minute(tx, MINUTE + later) == (MINUTE if later <= WAIT_MINUTES else MINUTE + later)


def test_a_clock_that_is_set_back_or_forward_stops_nobody_for_good(plant):
    with plant.open().begin() as tx:
        close_minute(tx, "a", ALL, MINUTE, one(1.0))
        assert close_minute(tx, "a", ALL, MINUTE - 600, one(2.0)) and closed_minute(tx, MINUTE - 600) == MINUTE - 600
        assert close_minute(tx, "a", ALL, MINUTE + 600, one(3.0)) and hall(tx, MINUTE + 600) == 3.0
        assert tx.scalar(select(func.count()).select_from(PEER_SUM)) == 1, "what is of another time is gone"


def test_what_is_rolled_back_was_not_closed(plant):
    engine = plant.open()
    with engine.connect() as tx:
        close_minute(tx, "a", ALL, MINUTE, one(1.0))
        tx.rollback()
        assert closed_minute(tx, MINUTE) is None
        assert close_minute(tx, "a", ALL, MINUTE, one(1.0))


def test_nothing_piles_up(plant):
    with plant.open().begin() as tx:
        close_minute(tx, "gone", frozenset({5}), MINUTE, one(1.0))
        for later in range(1, 40):
            close_minute(tx, "a", LOW, MINUTE + later, one(1.0))
            close_minute(tx, "b", HIGH, MINUTE + later, one(1.0))
        rows = dict(tx.execute(select(PEER_SUM.c.worker, func.count()).group_by(PEER_SUM.c.worker)).all())
    assert rows == {"a": WAIT_MINUTES + 1, "b": WAIT_MINUTES + 1}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    from fleet.store import open_store

    return open_store(f"sqlite:///{tmp_path_factory.mktemp('peers') / 'fleet.db'}", create=True)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("close"), st.integers(0, 2)),
        st.tuples(st.just("move"), st.integers(0, 2), st.integers(0, 7)),
        st.tuples(st.just("minute")),
    ),
    max_size=60,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whoever_serves_a_shard_its_devices_count_once(store, steps):
    """Eight shards of one device each move between three workers; a device adds a digit of its own."""
    holder = {shard: shard % 3 for shard in range(8)}
    minute = MINUTE
    with store.begin() as tx:
        tx.execute(delete(PEER_SUM))
        tx.execute(delete(PEER_MINUTE))
        for what, *rest in steps:
            if what == "minute":
                minute += 1
            elif what == "move":
                holder[rest[1]] = rest[0]
            else:
                held = {shard for shard, worker in holder.items() if worker == rest[0]}
                close_minute(tx, f"w{rest[0]}", held, minute, one(float(sum(4**shard for shard in held))))
            closed = closed_minute(tx, minute)
            if closed is not None:
                shards = tx.scalars(select(PEER_MINUTE.c.shard).where(PEER_MINUTE.c.minute == closed)).all()
                assert hall(tx, closed) == sum(4**shard for shard in shards)
