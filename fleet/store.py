"""The store: an SQLAlchemy engine on one SQLite file (WAL), with its schema version and its one writer."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table, create_engine, event, insert, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, IntegrityError, ProgrammingError

from device_agent.contract.errors import BadInput, NotFound, NotWritable
from fleet.schema import META, METADATA, SCHEMA_VERSION

BUSY_MS = 10_000


def open_store(url: str, *, create: bool = False) -> Engine:
    """Engine of the store at `url`, with all tables of this version. Its own failures are NotWritable, at any time.

    Raises:
        NotFound: there is no store and `create` is not set.
        BadInput: not a store's URL, not a lineside store, or one of another version.
        NotWritable: the file cannot be opened for writing.
    """
    parsed = _parse(url)
    path = _path(parsed)
    if not path.parent.is_dir():
        raise NotFound(f"{path}: the folder {path.parent} does not exist")
    if not path.exists() and not create:
        raise NotFound(f"{path}: no store here; `lineside-fleet serve --store {url}` makes one")
    engine = create_engine(parsed)
    event.listen(engine, "connect", _tune)
    event.listen(engine, "handle_error", lambda context: _explain(context, url), retval=True)
    _check_version(engine, url, create=create)
    return engine


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise BadInput(f"store {url.rpartition('@')[2]!r} is no URL; the store is sqlite:///FILE") from None
    plain = parsed == URL.create("sqlite", database=parsed.database)
    if not plain or not parsed.database or parsed.database == ":memory:":
        raise BadInput(f"store {parsed.render_as_string()!r}: the store is sqlite:///FILE, with nothing else")
    return parsed


def _path(url: URL) -> Path:
    return Path(url.database or "")


def _tune(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _check_version(engine: Engine, url: str, *, create: bool) -> None:
    names = inspect(engine).get_table_names()
    if names and META.name not in names:
        raise BadInput(f"store {url}: a database of something else (tables {', '.join(names[:3])})")
    with engine.begin() as tx:
        if names:
            version = int(tx.scalar(select(META.c.value).where(META.c.key == "schema")) or 0)
            if version != SCHEMA_VERSION:
                raise BadInput(f"store {url}: schema {version} cannot be read, this version reads {SCHEMA_VERSION}")
        elif create:
            METADATA.create_all(tx)
            tx.execute(insert(META).values(key="schema", value=str(SCHEMA_VERSION)))
        else:
            raise NotFound(f"store {url}: empty; `lineside-fleet serve` makes its tables")


def _explain(context: ExceptionContext, url: str) -> BaseException | None:
    """A failure of the file in one line. None for an error of ours in what was asked: it is raised as it is."""
    error = context.sqlalchemy_exception
    if not isinstance(error, DatabaseError) or isinstance(error, IntegrityError | DataError | ProgrammingError):
        return None
    text = str(error.orig).lower()
    if "not a database" in text or "malformed" in text:
        return BadInput(f"store {url}: not a database, or a damaged one: {text}")
    return NotWritable(f"store {url}: cannot be written or read: {text}")


@contextmanager
def one_writer(engine: Engine) -> Iterator[None]:
    """A block in which no other monitor writes to this store; the lock ends with the process, however it ends.

    Raises:
        BadInput: another monitor holds it.
    """
    path = _path(engine.url)
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


def upsert(tx: Connection, table: Table, rows: list[dict[str, Any]], *, keep: tuple[str, ...] = ()) -> None:
    """Insert rows by primary key; those that are there take the new values, except for columns in `keep`."""
    if not rows:
        return
    statement = (postgresql if tx.dialect.name == "postgresql" else sqlite).insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys and name not in keep}
    if changed:
        tx.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)
    else:
        tx.execute(statement.on_conflict_do_nothing(index_elements=keys), rows)
