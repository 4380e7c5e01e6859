"""A store in one file, and a store out of it: the same file for SQLite and PostgreSQL.

A zip archive with a manifest and one member a table: parts of up to 2,000 rows, each four bytes of length (big-endian)
and a MessagePack array of rows in the order of the manifest's columns. It is read from one snapshot of the database, so
that it can be made while the monitor runs.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
from sqlalchemy import Engine, Table, insert, inspect, select, text
from sqlalchemy.engine import Connection

from device_agent.contract.codec import read_document
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import replacing
from fleet.migrations import migrate, version_of
from fleet.schema import METADATA, SCHEMA_VERSION
from fleet.store import make_engine, one_writer, shown

CHUNK = 2_000
MANIFEST = "manifest.json"
Tell = Callable[[str, int], None]


class Member(msgspec.Struct, frozen=True):
    """One table: its columns, how many rows, and the SHA-256 of its bytes."""

    columns: list[str]
    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds; `version` is that of the store's schema."""

    schema: str = "1.0"
    version: int
    tables: dict[str, Member]


def back_up(engine: Engine, path: Path, tell: Tell = lambda _table, _rows: None) -> Manifest:
    """Write everything that the store holds into a file that is there wholly or not at all.

    Raises:
        BadInput: the file is there already.
        NotWritable: it cannot be written, or the store cannot be read.
    """
    if path.exists():
        raise BadInput(f"{path}: is there already; name another file")
    tables: dict[str, Member] = {}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as out:
        with snapshot(engine) as tx:
            version = version_of(tx)
            for table in METADATA.sorted_tables:
                with out.open(f"{table.name}.msgpack", "w", force_zip64=True) as member:
                    tables[str(table.name)] = _write(tx, table, member, tell)
        manifest = Manifest(version=version, tables=tables)
        out.writestr(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return manifest


def restore(path: Path, url: str, tell: Tell = lambda _table, _rows: None) -> Manifest:
    """Fill an empty store from a backup, whole or not at all.

    Raises:
        NotFound: no such file.
        BadInput: not a backup, a damaged one, or of another version; the store is not empty, or a monitor serves it.
        NotWritable, Unreachable: the store cannot be written or reached.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: is no backup of a store: {str(error).lower()}") from error
    with archive:
        manifest = _manifest(archive, path)
        engine = make_engine(url, create=True, whole=True)
        with one_writer(engine), engine.begin() as tx:
            if inspect(tx).get_table_names():
                raise BadInput(f"store {shown(engine)}: is not empty; a backup is restored into a new one")
            migrate(tx)
            for table in METADATA.sorted_tables:
                tx.execute(table.delete())
                if table.name in manifest.tables:
                    _read(tx, table, manifest.tables[table.name], archive, path, tell)
            _follow_sequences(tx)
    engine.dispose()
    return manifest


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees the store as it is when it reads first, whatever is written meanwhile."""
    postgres = engine.dialect.name == "postgresql"
    with engine.execution_options(isolation_level="REPEATABLE READ" if postgres else "SERIALIZABLE").begin() as tx:
        if not postgres:
            tx.exec_driver_sql("BEGIN")  # SQLite's driver begins a transaction only when something is written
        yield tx


def _write(tx: Connection, table: Table, out: IO[bytes], tell: Tell) -> Member:
    digest, count, encoder = hashlib.sha256(), 0, msgspec.msgpack.Encoder()
    rows = tx.execution_options(yield_per=CHUNK).execute(select(table))
    for part in rows.partitions(CHUNK):
        content = encoder.encode([list(row) for row in part])
        content = struct.pack(">I", len(content)) + content
        digest.update(content)
        out.write(content)
        count += len(part)
        tell(table.name, count)
    return Member([str(column.name) for column in table.columns], count, digest.hexdigest())


def _manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    try:
        text_ = archive.read(MANIFEST)
    except KeyError:
        raise BadInput(f"{path}: is no backup of a store: it has no manifest") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: damaged: {str(error).lower()}") from error
    manifest = read_document(text_, Manifest, where=str(path))
    if manifest.version != SCHEMA_VERSION:
        raise BadInput(
            f"{path}: of schema {manifest.version}, this version restores {SCHEMA_VERSION}: restore it with the one "
            f"that made it, then `lineside-fleet migrate`"
        )
    return manifest


def _read(tx: Connection, table: Table, member: Member, archive: zipfile.ZipFile, path: Path, tell: Tell) -> None:
    if any(name not in table.columns for name in member.columns):
        raise BadInput(f"{path}: table {table.name} has columns that are not known here")
    digest, count = hashlib.sha256(), 0
    for rows in _rows(archive, f"{table.name}.msgpack", digest, path):
        tx.execute(insert(table), [dict(zip(member.columns, row, strict=True)) for row in rows])
        count += len(rows)
        tell(table.name, count)
    if digest.hexdigest() != member.sha256 or count != member.rows:
        raise BadInput(f"{path}: table {table.name} is damaged; nothing was restored")


def _rows(archive: zipfile.ZipFile, name: str, digest: Any, path: Path) -> Iterator[list[list[Any]]]:
    decoder = msgspec.msgpack.Decoder(list[list[Any]])
    try:
        with archive.open(name) as member:
            while head := member.read(4):
                content = member.read(struct.unpack(">I", head)[0])
                digest.update(head + content)
                yield decoder.decode(content)
    except (KeyError, OSError, struct.error, zlib.error, zipfile.BadZipFile, msgspec.DecodeError) as error:
        raise BadInput(f"{path}: {name} is damaged; nothing was restored") from error


def _follow_sequences(tx: Connection) -> None:
    """Numbers that PostgreSQL gives out go on after those that were restored."""
    if tx.dialect.name != "postgresql":
        return
    for table in METADATA.sorted_tables:
        if "id" in table.columns and table.columns["id"].type.python_type is int:
            last = f"(SELECT coalesce(max(id), 0) + 1 FROM {table.name})"
            tx.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {last}, false)"))
