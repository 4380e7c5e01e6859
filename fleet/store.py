"""The store: an SQLAlchemy engine on one SQLite file (WAL) or a PostgreSQL database, its schema and its one writer."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table, create_engine, event, inspect, text
from sqlalchemy.engine import URL, Connection, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, IntegrityError, ProgrammingError

from device_agent.contract.errors import BadInput, NotFound, NotWritable, Unreachable
from fleet.migrations import migrate, version_of
from fleet.schema import METADATA, SCHEMA_VERSION

BUSY_MS = 10_000
CACHE_KIB, CHECKPOINT_PAGES = 64 * 1024, 8_000
"""SQLite's memory for pages, and after how many of 4 KiB the log goes into the file: reports of many devices come to
pages all over the tables, which its own 2 MiB do not hold."""
CONNECT_S, STATEMENT_MS = 10, 120_000
WRITER = 0x6C696E65
"""Number of the advisory lock that the one monitor of a PostgreSQL store holds ("line")."""
POSTGRES = "postgresql+psycopg"


class StoreAway(Unreachable, NotWritable):
    """The PostgreSQL server does not answer, or does not let this user in (exit 5): nothing can be written for now."""


def open_store(url: str, *, create: bool = False) -> Engine:
    """Engine of the store at `url`, with all tables of this version. Its own failures are NotWritable, at any time.

    Raises:
        NotFound: there is no store and `create` is not set.
        BadInput: not a store's URL, not a lineside store, or one of another version.
        Unreachable: the PostgreSQL server does not answer, or does not let this user in.
        NotWritable: the file cannot be opened for writing.
    """
    engine = make_engine(url, create=create)
    check_version(engine, create=create)
    return engine


def make_engine(url: str, *, create: bool = False, whole: bool = False) -> Engine:
    """The engine alone, whatever is in the database. `whole`: tables too are made in transactions of all or nothing,
    which SQLite's driver does not do by itself.

    Raises:
        NotFound, BadInput: as for `open_store`.
    """
    parsed = _parse(url)
    if parsed.drivername == POSTGRES:
        return _postgres(parsed)
    path = Path(parsed.database or "")
    if not path.parent.is_dir():
        raise NotFound(f"{path}: the folder {path.parent} does not exist")
    if not path.exists() and not create:
        raise NotFound(f"{path}: no store here; `lineside-fleet serve --store {url}` makes one")
    engine = create_engine(parsed)
    event.listen(engine, "connect", _tune)
    if whole:
        event.listen(engine, "connect", _leave_alone)
        event.listen(engine, "begin", lambda tx: tx.exec_driver_sql("BEGIN IMMEDIATE"))
    event.listen(engine, "handle_error", lambda context: _explain(context, shown(engine)), retval=True)
    return engine


def _postgres(url: URL) -> Engine:
    """A server that was restarted is found again: a connection is tried before it is used."""
    engine = create_engine(
        url,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_S,
            "options": f"-c statement_timeout={STATEMENT_MS}",
            "application_name": "lineside-fleet",
        },
    )
    event.listen(engine, "handle_error", lambda context: _explain(context, shown(engine)), retval=True)
    return engine


def shown(engine: Engine) -> str:
    """The store's URL without its password."""
    return engine.url.render_as_string()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise BadInput(
            f"store {url.rpartition('@')[2]!r} is no URL; it must be sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        ) from None
    if parsed.drivername in ("postgresql", "postgres", POSTGRES):
        if not parsed.database:
            raise BadInput(f"store {parsed.render_as_string()!r}: names no database, as in postgresql://HOST/lineside")
        return parsed.set(drivername=POSTGRES)
    plain = parsed == URL.create("sqlite", database=parsed.database)
    if not plain or not parsed.database or parsed.database == ":memory:":
        raise BadInput(
            f"store {parsed.render_as_string()!r}: must be sqlite:///FILE, with nothing else, or "
            "postgresql://USER@HOST/DATABASE"
        )
    return parsed


def _tune(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    cursor.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    cursor.close()


def _leave_alone(connection: Any, _record: Any) -> None:
    """The driver begins no transactions of its own."""
    connection.isolation_level = None


def check_version(engine: Engine, *, create: bool) -> None:
    """Refuse a database of something else or of another version; an empty one gets its tables if `create` is set.

    Raises:
        BadInput, NotFound, Unreachable: as for `open_store`.
    """
    where = shown(engine)
    with engine.begin() as tx:
        names = inspect(tx).get_table_names()
        if not names and not create:
            raise NotFound(f"store {where}: empty; `lineside-fleet serve` makes its tables")
        if names and "meta" not in names:
            raise BadInput(f"store {where}: a database of something else (tables {', '.join(sorted(names)[:3])})")
        if not names:
            migrate(tx)
            return
        version = version_of(tx)
    if version > SCHEMA_VERSION:
        raise BadInput(f"store {where}: schema {version} cannot be read, this version reads {SCHEMA_VERSION}")
    if version < SCHEMA_VERSION:
        raise BadInput(
            f"store {where}: schema {version} is older than this version's {SCHEMA_VERSION}; bring it up with "
            f"`lineside-fleet migrate`"
        )


def _explain(context: ExceptionContext, where: str) -> BaseException | None:
    """A failure of the store in one line. None for an error of ours in what was asked: it is raised as it is."""
    if context.is_pre_ping:
        return None  # the pool connects anew, and fails as such if it must
    error = context.sqlalchemy_exception
    if not isinstance(error, DatabaseError) or isinstance(error, IntegrityError | DataError | ProgrammingError):
        return None
    said = _said(error.orig)
    if "not a database" in said or "malformed" in said:
        return BadInput(f"store {where}: not a database, or a damaged one: {said}")
    if context.connection is None and "postgresql" in where:
        return StoreAway(f"store {where}: {said}")
    return NotWritable(f"store {where}: cannot be written or read: {said}")


@contextmanager
def one_writer(engine: Engine, *, among_others: bool = False) -> Iterator[None]:
    """A block in which no other monitor writes to this store; the lock ends with the process, however it ends.
    `among_others`: others may that do the same, as workers that share a PostgreSQL store do.

    Raises:
        BadInput: another monitor holds it.
    """
    if engine.dialect.name == "postgresql":
        lock = "pg_try_advisory_lock_shared" if among_others else "pg_try_advisory_lock"
        with engine.connect() as held:
            if not held.scalar(text(f"SELECT {lock}(:number)"), {"number": WRITER}):
                raise BadInput(f"store {shown(engine)}: another monitor serves this store; end it first")
            held.commit()
            try:
                yield
            finally:
                held.invalidate()  # the lock goes with the session, which a pool would keep
        return
    path = Path(engine.url.database or "")
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise BadInput(f"{path}: another monitor serves this store; end it, or give --store another file") from None
    try:
        yield
    finally:
        os.close(handle)


def upsert(
    tx: Connection, table: Table, rows: list[dict[str, Any]], *, keep: tuple[str, ...] = (), lock: bool = False
) -> None:
    """Insert rows by primary key; those that are there take the new values, except for columns in `keep`. `lock`: rows
    without anything to change are held until the transaction ends all the same. The last one of a key counts."""
    if not rows:
        return
    quote = tx.dialect.identifier_preparer.quote
    keys = [column.name for column in table.primary_key]
    rows = list({tuple(map(row.__getitem__, keys)): row for row in rows}.values())
    changed = [quote(name) for name in rows[0] if name not in keep and (lock or name not in keys)]
    taken = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in changed) if changed else "NOTHING"
    conflict = f"ON CONFLICT ({', '.join(map(quote, keys))}) DO {taken}"
    columns = tuple(rows[0])
    into = f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, columns))})"
    if tx.dialect.name == "postgresql":
        types = [f"%s::{table.c[name].type.compile(tx.dialect)}[]" for name in columns]
        whole = tuple([row[name] for row in rows] for name in columns)
        tx.exec_driver_sql(f"{into} SELECT * FROM unnest({', '.join(types)}) {conflict}", whole)
    else:
        values = [tuple(row[name] for name in columns) for row in rows]
        tx.exec_driver_sql(f"{into} VALUES ({', '.join('?' * len(columns))}) {conflict}", values)


def append(tx: Connection, table: Table, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Insert many rows that are new, values in the order of `columns`: by COPY into PostgreSQL."""
    if not rows:
        return
    quote = tx.dialect.identifier_preparer.quote
    names = ", ".join(quote(name) for name in columns)
    if tx.dialect.name == "postgresql":
        _copy(tx, f"COPY {quote(table.name)} ({names}) FROM STDIN", rows)
        return
    marks = ", ".join("?" * len(columns))
    tx.exec_driver_sql(f"INSERT INTO {quote(table.name)} ({names}) VALUES ({marks})", rows)


def _copy(tx: Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    """COPY goes past SQLAlchemy, and so would its failures."""
    import psycopg

    try:
        with tx.connection.cursor().copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except (psycopg.IntegrityError, psycopg.DataError, psycopg.ProgrammingError):
        raise
    except psycopg.DatabaseError as error:
        raise NotWritable(f"store {shown(tx.engine)}: cannot be written or read: {_said(error)}") from error


def _said(error: BaseException | None) -> str:
    return " ".join(str(error).lower().split())


__all__ = [
    "METADATA",
    "StoreAway",
    "append",
    "check_version",
    "make_engine",
    "one_writer",
    "open_store",
    "shown",
    "upsert",
]
