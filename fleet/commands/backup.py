"""`lineside-fleet backup` and `restore`: a store in one file, and out of it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from device_agent.console import json_option, print_json
from fleet.commands.options import store_option

_PATH = click.Path(path_type=Path)


@click.command("backup")
@click.argument("file", type=_PATH)
@store_option
@json_option
def backup(file: Path, store: str, as_json: bool) -> None:
    """Write everything that the store holds into FILE, while the monitor runs or not.

    \b
    Example: lineside-fleet backup fleet-2026-11-23.zip --store sqlite:///fleet.db
    """
    from fleet.backup import back_up
    from fleet.store import open_store

    manifest = back_up(open_store(store), file, _progress("wrote"))
    if as_json:
        print_json(manifest)
        return
    rows = sum(table.rows for table in manifest.tables.values())
    click.echo(
        f"{file}: {rows:,} rows of {len(manifest.tables)} tables, {file.stat().st_size / 2**20:.1f} MiB", err=True
    )


@click.command("restore")
@click.argument("file", type=_PATH)
@store_option
@json_option
def restore(file: Path, store: str, as_json: bool) -> None:
    """Fill an empty store from FILE, of either kind, whatever kind the backup was made of.

    \b
    Example: lineside-fleet restore fleet-2026-11-23.zip --store postgresql://lineside@db.example/lineside
    """
    from fleet.backup import restore as fill

    manifest = fill(file, store, _progress("restored"))
    if as_json:
        print_json(manifest)
        return
    rows = sum(table.rows for table in manifest.tables.values())
    click.echo(f"{rows:,} rows of {len(manifest.tables)} tables are in the store", err=True)


def _progress(done: str) -> Callable[[str, int], None]:
    """A line each hundred thousand rows."""

    def tell(table: str, rows: int) -> None:
        if rows % 100_000 == 0:
            click.echo(f"{table}: {done} {rows:,} rows", err=True)

    return tell
