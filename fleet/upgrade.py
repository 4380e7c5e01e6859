"""A store brought up to this version while no monitor runs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import inspect

from device_agent.contract.errors import BadInput
from fleet.migrations import migrate, version_of
from fleet.schema import SCHEMA_VERSION
from fleet.store import make_engine, one_writer, shown


class Upgraded(NamedTuple):
    """Versions before (0: empty) and after; `copy` is what a SQLite file was before."""

    before: int
    after: int
    copy: Path | None


def upgrade(url: str) -> Upgraded:
    """Bring the store at `url` up to this version.

    Raises:
        NotFound, BadInput, Unreachable, NotWritable: as for `open_store`; a monitor serves the store; a newer one.
    """
    engine = make_engine(url, create=True, whole=True)
    with one_writer(engine):
        with engine.connect() as tx:
            tables = inspect(tx).get_table_names()
            if tables and "meta" not in tables:
                raise BadInput(f"store {shown(engine)}: a database of something else (tables {', '.join(tables[:3])})")
            before = version_of(tx) if tables else 0
        if before > SCHEMA_VERSION:
            raise BadInput(f"store {shown(engine)}: schema {before} is newer than this version's {SCHEMA_VERSION}")
        if before == SCHEMA_VERSION:
            return Upgraded(before, before, None)
        copy = None
        if before and engine.dialect.name == "sqlite":
            copy = Path(f"{engine.url.database}.schema-{before}")
            if copy.exists():
                raise BadInput(f"{copy}: is there already, from an attempt before; move it away first")
            with make_engine(url).connect().execution_options(isolation_level="AUTOCOMMIT") as tx:
                tx.exec_driver_sql("VACUUM INTO ?", (str(copy),))
        with engine.begin() as tx:
            after = migrate(tx)[1]
    engine.dispose()
    return Upgraded(before, after, copy)
