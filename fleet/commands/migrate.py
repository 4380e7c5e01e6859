"""`lineside-fleet migrate`: bring a store up to this version."""

from __future__ import annotations

import click

from fleet.commands.options import store_option


@click.command("migrate")
@click.option(
    "--timescale",
    is_flag=True,
    help="Make hypertables with compression of the tables whose key holds their time, where PostgreSQL has the "
    "extension timescaledb. Untested here.",
)
@store_option
def migrate(store: str, timescale: bool) -> None:
    """Bring the store up to this version, or make its tables. End the monitor first, and make a copy: there is no way
    back.

    It is all done or not at all in PostgreSQL; of a SQLite file a copy, FILE.schema-N, is left beside it.

    \b
    Example: lineside-fleet migrate --store postgresql://lineside@db.example/lineside
    """
    from fleet.upgrade import upgrade

    done = upgrade(store)
    if done.before == done.after:
        click.echo(f"the store is of schema {done.after} already", err=True)
    else:
        origin = f"schema {done.before}" if done.before else "an empty database"
        copy = f"; its copy is {done.copy}" if done.copy else ""
        click.echo(f"the store is of schema {done.after} now, from {origin}{copy}", err=True)
    if timescale:
        _make_hypertables(store)


def _make_hypertables(store: str) -> None:
    from fleet.timescale import convert

    made = convert(store)
    how = "with compression" if made.compressed else "without compression, which this edition of timescaledb lacks"
    click.echo(f"hypertables, {how}: {', '.join(made.tables)}", err=True)
    for name, time in made.left.items():
        click.echo(f"{name} stays a plain table: its key does not hold {time}", err=True)
