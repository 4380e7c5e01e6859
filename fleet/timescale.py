"""Hypertables and compression of TimescaleDB, for tables whose key holds their time. Untested against TimescaleDB here.

What is asked of the database is made by `statements`, a pure function. Retention stays lineside's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Table, text
from sqlalchemy.exc import DBAPIError

from device_agent.contract.errors import BadInput
from fleet.schema import EVENT, REPORT, ROLLUP, SHADOW_TALLY
from fleet.store import make_engine, one_writer, shown

EXTENSION = "timescaledb"
DAY_MS = 86_400_000
NOW = "lineside_now_ms"
"""Function of the database: wall-clock ms, by which a policy tells old chunks."""


class Series(NamedTuple):
    """A table that grows with time: its column of time (ms), how long a chunk is, and when it is compressed."""

    table: Table
    time: str
    chunk_ms: int
    compress_ms: int


SERIES = (
    Series(REPORT, "at_ms", DAY_MS, 2 * DAY_MS),
    Series(ROLLUP, "start_ms", 7 * DAY_MS, 30 * DAY_MS),
    Series(SHADOW_TALLY, "start_ms", 7 * DAY_MS, 30 * DAY_MS),
    Series(EVENT, "at_ms", 30 * DAY_MS, 90 * DAY_MS),
)
"""Sums are compressed when reports that come late do not change them any more, as a rule."""


class Asks(Protocol):
    """A connection, as far as it is used here."""

    def execute(self, statement: Any, /) -> Any:
        """Run a statement."""

    def scalar(self, statement: Any, /) -> Any:
        """The first value of its answer, None without one."""


class Converted(NamedTuple):
    """Names of tables that are hypertables now, and of those whose key does not hold their time, with that column;
    `compressed` False where the edition of the extension cannot."""

    tables: list[str]
    left: dict[str, str]
    compressed: bool


def fits(series: Series) -> bool:
    """Whether every key of the table holds its time, which a hypertable asks for.

    >>> [one.table.name for one in SERIES if fits(one)]
    ['rollup', 'shadow_tally']
    """
    table = series.table
    unique = [index.columns for index in table.indexes if index.unique]
    return all(series.time in columns for columns in (table.primary_key.columns, *unique))


def statements(series: Iterable[Series] = SERIES, *, compress: bool = True) -> list[str]:
    """SQL that makes hypertables of those tables that fit, each statement harmless where it was done before.

    >>> print(statements(compress=False)[1])
    SELECT create_hypertable('rollup', 'start_ms', chunk_time_interval => 604800000::bigint,
      create_default_indexes => false, migrate_data => true, if_not_exists => true)
    """
    found = [
        f"CREATE OR REPLACE FUNCTION {NOW}() RETURNS bigint LANGUAGE sql STABLE AS "
        "$$ SELECT (extract(epoch FROM now()) * 1000)::bigint $$"
    ]
    for one in series:
        if fits(one):
            found += _convert(one) + (_compress(one) if compress else [])
    return found


def _convert(series: Series) -> list[str]:
    name = series.table.name
    return [
        f"SELECT create_hypertable('{name}', '{series.time}', chunk_time_interval => {series.chunk_ms}::bigint, "
        "create_default_indexes => false, migrate_data => true, if_not_exists => true)",
        f"SELECT set_integer_now_func('{name}', '{NOW}', replace_if_exists => true)",
    ]


def _compress(series: Series) -> list[str]:
    """Chunks by device, in order of time; every column of the key is in one of the two, as uniqueness asks for."""
    name, key = series.table.name, [column.name for column in series.table.primary_key]
    order = [f"{series.time} DESC", *(column for column in key if column not in ("device", series.time))]
    return [
        f"ALTER TABLE {name} SET (timescaledb.compress, timescaledb.compress_segmentby = 'device', "
        f"timescaledb.compress_orderby = '{', '.join(order)}')",
        f"SELECT add_compression_policy('{name}', compress_after => {series.compress_ms}::bigint, "
        "if_not_exists => true)",
    ]


def missing(tx: Asks) -> str | None:
    """Why the database has no hypertables, in words; None where the extension is there."""
    if tx.scalar(text(f"SELECT 1 FROM pg_extension WHERE extname = '{EXTENSION}'")):
        return None
    if tx.scalar(text(f"SELECT 1 FROM pg_available_extensions WHERE name = '{EXTENSION}'")):
        return f"the server has {EXTENSION}, this database does not use it: CREATE EXTENSION {EXTENSION} first"
    return f"the server has no extension {EXTENSION}; the store works without it"


def apply(tx: Asks, series: Iterable[Series] = SERIES) -> Converted:
    """Make hypertables of those tables that fit, in the caller's transaction, where the extension is there."""
    series = list(series)
    compress = tx.scalar(text("SELECT current_setting('timescaledb.license', true)")) != "apache"
    tx.execute(text("SET LOCAL statement_timeout = 0"))
    for statement in statements(series, compress=compress):
        tx.execute(text(statement.replace(":", r"\:")))
    tables = [str(one.table.name) for one in series if fits(one)]
    left = {str(one.table.name): one.time for one in series if not fits(one)}
    return Converted(tables, left, compress)


def convert(url: str) -> Converted:
    """Make hypertables in the store at `url`, all or nothing, while no monitor runs.

    Raises:
        BadInput: not PostgreSQL, the extension is not there or refuses, or a monitor serves the store.
        NotFound, Unreachable, NotWritable: as for `open_store`.
    """
    engine = make_engine(url)
    if engine.dialect.name != "postgresql":
        raise BadInput(f"store {shown(engine)}: hypertables are of PostgreSQL with {EXTENSION}, this is SQLite")
    try:
        with one_writer(engine), engine.begin() as tx:
            if reason := missing(tx):
                raise BadInput(f"store {shown(engine)}: {reason}")
            return apply(tx)
    except DBAPIError as error:
        said = str(error.orig).strip().splitlines()[0].lower()
        raise BadInput(f"store {shown(engine)}: {EXTENSION} refuses: {said}; nothing was changed") from error
    finally:
        engine.dispose()
