"""What is asked of TimescaleDB, as text and as a fake connection hears it; the extension itself is not tried here."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner
from sqlalchemy import inspect
from sqlalchemy.dialects import postgresql

from device_agent.contract.errors import BadInput
from fleet.cli import cli
from fleet.schema import EVENT, REPORT, ROLLUP, SHADOW_TALLY
from fleet.store import one_writer, open_store
from fleet.timescale import SERIES, Series, apply, convert, fits, missing, statements

ON_POSTGRES = pytest.mark.parametrize("plant", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)


class Recorder:
    """A connection that answers from a table and keeps what it is asked."""

    def __init__(self, **answers: object) -> None:
        self.answers, self.asked = answers, []

    def scalar(self, statement):
        self.asked.append(str(statement.compile(dialect=postgresql.dialect())))
        return next((answer for name, answer in self.answers.items() if name in self.asked[-1]), None)

    def execute(self, statement):
        self.asked.append(str(statement.compile(dialect=postgresql.dialect())))


def test_only_tables_whose_keys_hold_their_time_are_converted():
    assert {one.table.name: fits(one) for one in SERIES} == {
        "report": False, "rollup": True, "shadow_tally": True, "event": False,
    }  # fmt: skip
    for one in SERIES:
        assert one.time in one.table.columns and one.chunk_ms < one.compress_ms
        assert fits(one) == (one.time in [column.name for column in one.table.primary_key])
    assert not fits(Series(REPORT, "at_ms", 1, 2)) and not fits(Series(EVENT, "at_ms", 1, 2))


def test_the_statements_name_chunks_clock_and_compression():
    text = "\n".join(statements())
    assert "'report'" not in text and "'event'" not in text
    for table in (ROLLUP, SHADOW_TALLY):
        assert f"create_hypertable('{table.name}', 'start_ms', chunk_time_interval => 604800000::bigint" in text
        assert f"set_integer_now_func('{table.name}', 'lineside_now_ms'" in text
        (segment, order) = re.search(
            rf"ALTER TABLE {table.name} SET .*segmentby = '([^']*)'.*orderby = '([^']*)'", text
        ).groups()
        named = {segment, *(word.split()[0] for word in order.split(", "))}
        assert named == {column.name for column in table.primary_key}, "uniqueness asks for every column of the key"
        assert segment == "device" and order.startswith("start_ms DESC")
        assert f"add_compression_policy('{table.name}', compress_after => 2592000000::bigint" in text
    assert "compress" not in "\n".join(statements(compress=False))
    assert "retention" not in text


def test_the_statements_reach_the_connection_as_they_are_in_order():
    tx = Recorder(**{"timescaledb.license": "timescale"})
    done = apply(tx)
    assert tx.asked[1:] == ["SET LOCAL statement_timeout = 0", *statements()]
    assert done.tables == ["rollup", "shadow_tally"] and done.left == {"report": "at_ms", "event": "at_ms"}
    assert done.compressed
    tx = Recorder(**{"timescaledb.license": "apache"})
    assert not apply(tx).compressed
    assert tx.asked[2:] == statements(compress=False)


def test_what_is_missing_is_said():
    assert missing(Recorder(pg_extension=1)) is None
    assert "CREATE EXTENSION timescaledb first" in missing(Recorder(pg_available_extensions=1))
    assert "has no extension timescaledb" in missing(Recorder())


def test_a_sqlite_store_has_no_hypertables(file_plant):
    file_plant.open()
    done = CliRunner().invoke(cli, ["migrate", "--timescale", "--store", file_plant.url])
    assert isinstance(done.exception, BadInput) and "this is SQLite" in str(done.exception)


@ON_POSTGRES
def test_a_database_without_the_extension_gets_one_line_and_stays_as_it_is(plant):
    engine = plant.open()
    before = sorted(inspect(engine).get_table_names())
    done = CliRunner().invoke(cli, ["migrate", "--timescale", "--store", plant.url])
    said = str(done.exception)
    assert isinstance(done.exception, BadInput) and "timescaledb" in said and "\n" not in said
    assert sorted(inspect(engine).get_table_names()) == before and open_store(plant.url)
    with one_writer(engine), pytest.raises(BadInput, match="another monitor serves"):
        convert(plant.url)


@ON_POSTGRES
def test_what_the_server_refuses_is_one_line_and_changes_nothing(plant, monkeypatch):
    """As if the extension were there: the functions it brings are not."""
    engine = plant.open()
    monkeypatch.setattr("fleet.timescale.missing", lambda _tx: None)
    with pytest.raises(BadInput, match=r"timescaledb refuses: function create_hypertable.*nothing was changed"):
        convert(plant.url)
    with engine.connect() as tx:
        found = tx.exec_driver_sql("SELECT count(*) FROM pg_proc WHERE proname = 'lineside_now_ms'").scalar()
    assert found == 0
