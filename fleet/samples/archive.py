"""Sealed samples that arrived: a file each in a folder, a row each in the store. What opens them is not needed here."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import NotWritable
from device_agent.contract.files import sweep, write_whole
from device_agent.samples.seal import SUFFIX, Head
from fleet.schema import SAMPLE
from fleet.store import open_store, upsert


class Row(NamedTuple):
    """A sample of `bytes` sealed; times in ms since 1970, `at_ms` by the device's clock; `model` 16 hex digits."""

    sha256: str
    device: str
    model: str
    at_ms: int
    received_ms: int
    cell: int
    reason: str
    probability: float | None
    bytes: int


def open_samples(url: str, *, create: bool = False) -> Engine:
    """The store with its table of samples, which one of an earlier release lacks.

    Raises:
        NotFound, BadInput, NotWritable: as for `open_store`.
    """
    engine = open_store(url, create=create)
    SAMPLE.create(engine, checkfirst=True)
    return engine


def place(folder: Path, device: str, sha256: str) -> Path:
    """Where a sample's file lies."""
    return folder / device / f"{sha256}{SUFFIX}"


class Archive:
    """Folder and table. Methods may be called from any thread; a disk or store that fails is NotWritable.

    Raises:
        NotWritable: the folder cannot be made.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for each in folder.iterdir():
                sweep(each)
        except OSError as error:
            raise NotWritable(f"{folder}: cannot be used: {(error.strerror or str(error)).lower()}") from error

    def holds(self, device: str, sha256: str) -> bool:
        """Is this sample here, file and row?"""
        if not place(self._folder, device, sha256).exists():
            return False
        with self._engine.connect() as tx:
            wanted = select(SAMPLE.c.sha256).where(SAMPLE.c.sha256 == sha256, SAMPLE.c.device == device)
            return tx.scalar(wanted) is not None

    def used(self, device: str, since_ms: int) -> int:
        """Bytes that came from a device since then."""
        with self._engine.connect() as tx:
            wanted = select(func.coalesce(func.sum(SAMPLE.c.bytes), 0))
            return int(tx.scalar(wanted.where(SAMPLE.c.device == device, SAMPLE.c.received_ms > since_ms)) or 0)

    def add(self, sha256: str, head: Head, sealed: bytes, now_ms: int) -> None:
        """Keep a sample; the file is on disk before the row is. Once it is here, another time changes nothing."""
        path = place(self._folder, head.device, sha256)
        write_whole(path, sealed)
        row = Row(
            sha256,
            head.device,
            head.model.hex(),
            head.wall_ms,
            now_ms,
            head.cell,
            head.reason,
            head.probability,
            len(sealed),
        )
        with self._engine.begin() as tx:
            upsert(tx, SAMPLE, [row._asdict()])

    def expire(self, before_ms: int) -> int:
        """Remove what was received before then; how many. A row goes after its file, so that nothing is forgotten."""
        with self._engine.connect() as tx:
            wanted = select(SAMPLE.c.device, SAMPLE.c.sha256).where(SAMPLE.c.received_ms < before_ms)
            old = [(device, sha256) for device, sha256 in tx.execute(wanted)]
        for device, sha256 in old:
            try:
                place(self._folder, device, sha256).unlink(missing_ok=True)
            except OSError as error:
                raise NotWritable(f"{self._folder}: cannot be cleared: {(error.strerror or '').lower()}") from error
        with self._engine.begin() as tx:
            tx.execute(delete(SAMPLE).where(SAMPLE.c.received_ms < before_ms))
        return len(old)


def read_samples(tx: Connection, *, device: str | None = None, limit: int = 1000) -> list[Row]:
    """The latest samples, the last one last; of one device or of all."""
    columns = [SAMPLE.c[name] for name in Row._fields]
    wanted = select(*columns).order_by(SAMPLE.c.received_ms.desc(), SAMPLE.c.at_ms.desc()).limit(limit)
    if device is not None:
        wanted = wanted.where(SAMPLE.c.device == device)
    return [Row(*row) for row in tx.execute(wanted)][::-1]
