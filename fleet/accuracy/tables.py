"""The store with the tables of labels and golden parts."""

from __future__ import annotations

from sqlalchemy import Engine

from fleet.schema import GOLDEN, GOLDEN_RUN, LABEL, LABEL_REQUEST, SAMPLE
from fleet.store import open_store

TABLES = (SAMPLE, LABEL, LABEL_REQUEST, GOLDEN, GOLDEN_RUN)


def open_labelled(url: str) -> Engine:
    """The store, with these tables where one of an earlier release lacks them.

    Raises:
        NotFound, BadInput, NotWritable, Unreachable: as for `open_store`.
    """
    engine = open_store(url)
    for table in TABLES:
        table.create(engine, checkfirst=True)
    return engine
