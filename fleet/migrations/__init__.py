"""The store's schema, version by version, by Alembic: each of `versions/` brings a store from the one before it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, select
from sqlalchemy.engine import Connection

from device_agent.contract.optional import require
from fleet.schema import META

if TYPE_CHECKING:
    from alembic.config import Config


def version_of(tx: Connection) -> int:
    """The version of a store that has tables."""
    return int(tx.scalar(select(META.c.value).where(META.c.key == "schema")) or 0)


def migrate(tx: Connection) -> tuple[int, int]:
    """Bring the store up to this version, in the caller's transaction: all of it or nothing. Version before and after;
    0 for a store that was empty.

    Raises:
        MissingPackage: Alembic is not installed.
    """
    require("alembic", extra="fleet")
    from alembic import command

    before = version_of(tx) if inspect(tx).has_table("meta") else 0
    config = _config(tx)
    if before and not inspect(tx).has_table("alembic_version"):
        command.stamp(config, f"{before:03d}")
    command.upgrade(config, "head")
    return before, version_of(tx)


def _config(tx: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = tx
    return config
