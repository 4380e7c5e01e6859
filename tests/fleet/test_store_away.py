"""A PostgreSQL server that goes away and comes back: one clear error meanwhile, and no connection of before is used."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from device_agent.contract.errors import NotWritable, Unreachable
from fleet.detector_fleet import Settings
from fleet.inbox import read_batch
from fleet.ingest import Ingest
from fleet.store import StoreAway, make_engine, open_store

from .conftest import Plant

pytestmark = pytest.mark.postgres


@pytest.fixture
def plant(postgres_url, tmp_path):
    plant = Plant(tmp_path, postgres_url)
    yield plant
    plant.close()


def cut_connections(plant) -> None:
    """As a restart of the server does."""
    other = make_engine(plant.url)
    with other.connect() as tx:
        name = plant.url.rpartition("/")[2]
        ended = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
        )
        assert tx.execute(text(ended), {"name": name}).all()
    other.dispose()


def test_a_connection_that_the_server_cut_is_replaced(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, Settings())
    assert ingest.process(batch_of(speaker.message(speaker.report())), 0).stored == 1
    cut_connections(plant)
    assert ingest.process(batch_of(speaker.message(speaker.report())), 0).stored == 1


def test_a_connection_that_is_cut_within_a_batch_costs_nothing(plant):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, Settings())
    messages = [speaker.message(speaker.report()) for _ in range(3)]
    write, times = ingest.ledger.write, []

    def cut_once(*given):
        times.append(cut_connections(plant))
        write(*given)

    ingest.ledger.write = cut_once
    with pytest.raises(NotWritable):
        ingest.process(read_batch(messages), 0)
    outcome = ingest.process(read_batch(messages), 0)
    assert (outcome.stored, outcome.acks, len(times)) == (3, [("press-1", speaker.epoch, 3)], 1)


def test_a_server_that_does_not_answer_is_unreachable_and_not_writable(free_port):
    url = f"postgresql://lineside@127.0.0.1:{free_port}/lineside"
    with pytest.raises(StoreAway, match="connection refused") as caught:
        open_store(url)
    assert isinstance(caught.value, Unreachable) and isinstance(caught.value, NotWritable)
    assert caught.value.exit_code == 5
