"""A store of schema 1 becomes one of today without loss; what migrations make is what the code expects."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import CliRunner
from sqlalchemy import inspect, text

from device_agent.contract.errors import BadInput
from fleet.cli import cli
from fleet.detector_fleet import Settings
from fleet.ingest import Ingest
from fleet.migrations import migrate, version_of
from fleet.schema import METADATA, SCHEMA_VERSION
from fleet.store import make_engine, one_writer, open_store
from fleet.upgrade import upgrade

SETTINGS = Settings(interval_ms=1000)
ADDED = (
    "reference", "outbox", "delivery", "route_state", "route_lease", "silence", "acknowledgement", "judgement", "dial",
    "rollup", "rollup_due", "lease", "worker", "shard", "peer_sum", "peer_minute",
    "label", "label_request", "golden", "golden_run",
    "trigger", "approval", "rollout", "shadow_tally",
)  # fmt: skip
"""Tables of schema 2."""


def as_schema_1(engine) -> None:
    """Take away what schema 2 added: the store as the first version left it, with what it holds."""
    with engine.begin() as tx:
        for table in ADDED:
            tx.execute(text(f"DROP TABLE {table}"))
        tx.execute(text("DROP TABLE alembic_version"))
        tx.execute(text("DROP INDEX report_batch"))
        tx.execute(text("DROP INDEX device_place"))
        tx.execute(text("DROP INDEX detector_hot"))
        for table, column in (
            ("detector_state", "hot"),
            ("detector_state", "alone"),
            ("device", "batch"),
            ("report", "batch"),
            ("report", "live"),
        ):
            tx.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
        tx.execute(text("UPDATE meta SET value = '1' WHERE key = 'schema'"))


def test_an_older_store_is_refused_until_it_is_brought_up_and_loses_nothing(plant, batch_of):
    engine, speaker = plant.open(), plant.speaker("press-1")
    ingest = Ingest(engine, SETTINGS)
    for _ in range(5):
        ingest.process(batch_of(speaker.message(speaker.report())), 0)
    before = ingest.fleet.state("press-1"), ingest.fleet.readings["press-1"]
    as_schema_1(engine)
    with pytest.raises(
        BadInput, match="schema 1 is older than this version's 2; bring it up with `lineside-fleet migrate`"
    ):
        open_store(plant.url)
    done = CliRunner().invoke(cli, ["migrate", "--store", plant.url])
    assert done.exit_code == 0 and "of schema 2 now, from schema 1" in done.output
    ingest = Ingest(open_store(plant.url), SETTINGS)
    assert (ingest.fleet.state("press-1"), ingest.fleet.readings["press-1"]) == before
    outcome = ingest.process(batch_of(speaker.message(speaker.report())), 0)
    assert outcome.acks == [("press-1", speaker.epoch, 6)] and ingest.registry.get("press-1").reports == 6
    again = CliRunner().invoke(cli, ["migrate", "--store", plant.url])
    assert "of schema 2 already" in again.output


def test_what_the_migrations_make_is_what_the_code_expects(plant):
    engine = plant.open()
    with engine.connect() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True})
        found = [one for one in compare_metadata(context, METADATA) if "comment" not in str(one[0])]
        assert not [one for one in found if one[0] != "remove_table" or one[1].name != "alembic_version"]
        assert version_of(tx) == SCHEMA_VERSION
        assert set(METADATA.tables) < set(inspect(tx).get_table_names())


def test_a_store_that_is_served_or_newer_is_left_alone(plant):
    engine = plant.open()
    with one_writer(engine), pytest.raises(BadInput, match="another monitor serves this store"):
        upgrade(plant.url)
    with engine.begin() as tx:
        tx.execute(text("UPDATE meta SET value = '99' WHERE key = 'schema'"))
    with pytest.raises(BadInput, match="schema 99 is newer"):
        upgrade(plant.url)


def test_a_database_of_something_else_is_left_alone(plant):
    engine = make_engine(plant.url, create=True)
    with engine.begin() as tx:
        tx.execute(text("CREATE TABLE shop (item TEXT)"))
    for attempt in (lambda: upgrade(plant.url), lambda: open_store(plant.url, create=True)):
        with pytest.raises(BadInput, match=r"a database of something else \(tables shop\)"):
            attempt()


def test_a_file_leaves_a_copy_of_what_it_was(file_plant):
    engine = file_plant.open()
    as_schema_1(engine)
    engine.dispose()
    done = upgrade(file_plant.url)
    assert done.before == 1 and done.copy is not None and done.copy.name == "fleet.db.schema-1"
    with make_engine(f"sqlite:///{done.copy}").connect() as tx:
        assert version_of(tx) == 1
    with make_engine(file_plant.url).begin() as tx:
        assert migrate(tx) == (2, 2)
